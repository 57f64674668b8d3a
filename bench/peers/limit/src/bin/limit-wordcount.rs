//! What these cores can do with no framework at all: hash-count the words of every file under INPUT, write sorted parts.
//! A word is a maximal run of bytes other than space, tab, LF, CR, FF. args: INPUT OUTPUT PARTS THREADS
use hashbrown::{HashTable, hash_table::Entry};
use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// `head` is the word's first 16 bytes, zero-padded: most comparisons never touch the text again.
struct Slot<'a> {
    head: u128,
    word: &'a [u8],
    hash: u64,
    count: u64,
}
type Table<'a> = HashTable<Slot<'a>>;

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | 12 | b'\r')
}

/// Bit i is set where byte i of the 64 is a separator. Compiles to vector compares.
#[inline(always)]
fn separators(chunk: &[u8; 64]) -> u64 {
    let mut mask = 0u64;
    for half in 0..2 {
        let mut m = 0u32;
        for i in 0..32 {
            m |= (is_space(chunk[half * 32 + i]) as u32) << i
        }
        mask |= (m as u64) << (half * 32);
    }
    mask
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn separators_avx2(chunk: &[u8; 64]) -> u64 {
    use std::arch::x86_64::*;
    let mut out = 0u64;
    for half in 0..2 {
        let v = unsafe { _mm256_loadu_si256(chunk.as_ptr().add(half * 32).cast()) };
        let eq = |b: u8| _mm256_cmpeq_epi8(v, _mm256_set1_epi8(b as i8));
        let any = _mm256_or_si256(
            _mm256_or_si256(eq(b' '), eq(b'\t')),
            _mm256_or_si256(eq(b'\n'), _mm256_or_si256(eq(12), eq(b'\r'))),
        );
        out |= (_mm256_movemask_epi8(any) as u32 as u64) << (half * 32);
    }
    out
}

/// The first 16 bytes of the word at `start`: one load and a mask, except at the very end of the text.
#[inline(always)]
fn head(text: &[u8], start: usize, len: usize) -> u128 {
    let mask = if len >= 16 { u128::MAX } else { (1u128 << (8 * len)) - 1 };
    match text.get(start..start + 16) {
        Some(b) => u128::from_le_bytes(b.try_into().unwrap()) & mask,
        None => {
            let mut b = [0u8; 16];
            let n = len.min(16);
            b[..n].copy_from_slice(&text[start..start + n]);
            u128::from_le_bytes(b)
        }
    }
}
#[inline(always)]
fn hash(w: &[u8], head: u128) -> u64 {
    let mut h = mix(head as u64 ^ w.len() as u64, (head >> 64) as u64);
    if w.len() > 16 {
        for c in w[16..].chunks(8) {
            let mut b = [0u8; 8];
            b[..c.len()].copy_from_slice(c);
            h = mix(h, u64::from_le_bytes(b))
        }
    }
    h
}
#[inline(always)]
fn mix(a: u64, b: u64) -> u64 {
    let p = ((a ^ 0xA076_1D64_78BD_642F) as u128) * ((b ^ 0xE703_7ED1_A0B4_28DB) as u128);
    (p >> 64) as u64 ^ p as u64
}

#[inline(always)]
fn add<'a>(t: &mut Table<'a>, word: &'a [u8], n: u64, head: u128, h: u64) {
    let same = |s: &Slot| {
        s.head == head && s.word.len() == word.len() && (word.len() <= 16 || s.word[16..] == word[16..])
    };
    match t.entry(h, same, |s| s.hash) {
        Entry::Occupied(mut e) => e.get_mut().count += n,
        Entry::Vacant(e) => {
            e.insert(Slot { head, word, hash: h, count: n });
        }
    }
}

#[inline(always)]
fn one<'a>(t: &mut Table<'a>, text: &'a [u8], start: usize, end: usize) {
    let (w, h) = (&text[start..end], head(text, start, end - start));
    add(t, w, 1, h, hash(w, h))
}

fn count<'a>(split: &'a [u8], t: &mut Table<'a>, avx2: bool) {
    let mut start = 0; // of the current word, or of the run of separators
    let (chunks, tail) = split.as_chunks::<64>();
    for (i, c) in chunks.iter().enumerate() {
        #[cfg(target_arch = "x86_64")]
        let mut m = if avx2 { unsafe { separators_avx2(c) } } else { separators(c) };
        #[cfg(not(target_arch = "x86_64"))]
        let mut m = {
            let _ = avx2;
            separators(c)
        };
        while m != 0 {
            let at = i * 64 + m.trailing_zeros() as usize;
            if at > start {
                one(t, split, start, at)
            }
            start = at + 1;
            m &= m - 1
        }
    }
    let base = chunks.len() * 64;
    for (i, &b) in tail.iter().enumerate() {
        if is_space(b) {
            let at = base + i;
            if at > start {
                one(t, split, start, at)
            }
            start = at + 1
        }
    }
    if split.len() > start {
        one(t, split, start, split.len())
    }
}

fn files(p: &Path, out: &mut Vec<PathBuf>) {
    if p.is_dir() {
        for e in fs::read_dir(p).unwrap() {
            files(&e.unwrap().path(), out)
        }
    } else {
        out.push(p.to_owned())
    }
}

fn main() {
    let a: Vec<String> = env::args().collect();
    let (parts, threads): (usize, usize) = (a[3].parse().unwrap(), a[4].parse().unwrap());
    let mut list = vec![];
    files(Path::new(&a[1]), &mut list);
    let maps: Vec<memmap2::Mmap> = list
        .iter()
        .map(|f| fs::File::open(f).unwrap())
        .filter(|f| f.metadata().unwrap().len() > 0)
        .map(|f| unsafe { memmap2::Mmap::map(&f).unwrap() })
        .collect();
    let mut splits: Vec<&[u8]> = vec![];
    for m in &maps {
        let mut s = 0;
        while s < m.len() {
            let mut e = (s + (16 << 20)).min(m.len());
            while e < m.len() && !is_space(m[e]) {
                e += 1
            }
            splits.push(&m[s..e]);
            s = e
        }
    }
    #[cfg(target_arch = "x86_64")]
    let avx2 = is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    let avx2 = false;
    let (next, splits) = (&AtomicUsize::new(0), &splits);
    let tables: Vec<Table> = thread::scope(|s| {
        (0..threads)
            .map(|_| {
                s.spawn(move || {
                    let mut t = Table::with_capacity(1 << 20);
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        if i >= splits.len() {
                            return t;
                        }
                        count(splits[i], &mut t, avx2)
                    }
                })
            })
            .collect::<Vec<_>>()
            .into_iter()
            .map(|h| h.join().unwrap())
            .collect()
    });
    fs::create_dir_all(&a[2]).unwrap();
    let (np, tables, dir) = (&AtomicUsize::new(0), &tables, &a[2]);
    thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(move || {
                loop {
                    let p = np.fetch_add(1, Ordering::Relaxed);
                    if p >= parts {
                        break;
                    }
                    let mut t = Table::new();
                    for x in tables.iter().flat_map(|t| t.iter()) {
                        if (x.hash >> 48) as usize * parts >> 16 == p {
                            add(&mut t, x.word, x.count, x.head, x.hash)
                        }
                    }
                    let mut v: Vec<(u128, &[u8], u64)> =
                        t.iter().map(|s| (s.head.swap_bytes(), s.word, s.count)).collect();
                    v.sort_unstable();
                    let mut o = std::io::BufWriter::with_capacity(
                        1 << 20,
                        fs::File::create(format!("{dir}/part-{p:05}")).unwrap(),
                    );
                    for (_, w, n) in v {
                        o.write_all(w).unwrap();
                        writeln!(o, "\t{n}").unwrap()
                    }
                }
            });
        }
    });
}
