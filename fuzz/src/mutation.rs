//! Random changes to seeds, always the same ones: what `cargo test` feeds the targets.

/// Numbers at which lengths and counts break.
const EDGES: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, u64::MAX >> 1, u64::MAX];
/// Changes to one seed at a time, at most.
const CHANGES_MAX: u64 = 6;

/// Makes inputs out of seeds.
pub struct Mutation {
    state: u64,
    seeds: Vec<Vec<u8>>,
    input_bytes_max: usize,
}

impl Mutation {
    /// Of these seeds, never longer than `input_bytes_max`. Equal arguments make equal inputs.
    pub fn new(mut seeds: Vec<Vec<u8>>, input_bytes_max: usize) -> Self {
        seeds.push(Vec::new());
        Self { state: 1, seeds, input_bytes_max }
    }

    /// The next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.seed().to_vec();
        for _ in 0..=self.below(CHANGES_MAX) {
            self.change(&mut input);
        }
        input.truncate(self.input_bytes_max);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() as u64 + 1) as usize;
        let length = self.below(16.min((input.len() - at) as u64) + 1) as usize;
        match self.below(8) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..at + length)),
            2 => self.overwrite(input, at, 1),
            3 => self.insert(input, at),
            4 => input[at..at + length].reverse(),
            5 => {
                let again = input[at..at + length].to_vec();
                input.splice(at..at, again);
            }
            6 => {
                let width = 1 << self.below(4);
                self.overwrite(input, at, width);
            }
            _ => self.cross(input, at),
        }
    }

    /// Puts `width` bytes of noise, or a number from the edge, over what is at `at`.
    fn overwrite(&mut self, input: &mut [u8], at: usize, width: usize) {
        let number = match self.below(3) {
            0 => self.next(),
            1 => EDGES[self.below(EDGES.len() as u64) as usize],
            _ => 1 << self.below(64),
        };
        let bytes = if self.below(2) == 0 { number.to_le_bytes() } else { number.swap_bytes().to_le_bytes() };
        for (to, byte) in input[at..].iter_mut().zip(&bytes[..width]) {
            *to = if self.below(4) == 0 { *to ^ byte } else { *byte };
        }
    }

    fn insert(&mut self, input: &mut Vec<u8>, at: usize) {
        let bytes = self.next().to_le_bytes();
        let length = self.below(8) as usize + 1;
        let byte = if self.below(2) == 0 { Some(bytes[0]) } else { None };
        input.splice(at..at, bytes[..length].iter().map(|&other| byte.unwrap_or(other)));
    }

    /// The rest is another seed's.
    fn cross(&mut self, input: &mut Vec<u8>, at: usize) {
        let other = self.below(self.seeds.len() as u64) as usize;
        let from = self.below(self.seeds[other].len() as u64 + 1) as usize;
        input.truncate(at);
        input.extend_from_slice(&self.seeds[other][from..]);
    }

    fn seed(&mut self) -> &[u8] {
        let number = self.below(self.seeds.len() as u64) as usize;
        &self.seeds[number]
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
