//! 100-byte records with uniform 10-byte binary keys. args: OUTPUT COUNT SEED
use std::{env, fs, io::Write};
fn main() {
    let a: Vec<String> = env::args().collect();
    let n: u64 = a[2].parse().unwrap();
    let mut s: u64 = a[3].parse().unwrap();
    let mut next = move || {
        s = s.wrapping_add(0x9E3779B97F4A7C15);
        let mut z = s;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58476D1CE4E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D049BB133111EB);
        z ^ (z >> 31)
    };
    let mut o = std::io::BufWriter::with_capacity(1 << 20, fs::File::create(&a[1]).unwrap());
    for i in 0..n {
        let mut r = [b'.'; 100];
        r[..8].copy_from_slice(&next().to_be_bytes());
        r[8..10].copy_from_slice(&next().to_be_bytes()[..2]);
        let t = format!("{i:032x}");
        r[12..44].copy_from_slice(t.as_bytes());
        for j in 0..6 {
            let c = b'A' + (next() % 26) as u8;
            r[46 + j * 8..54 + j * 8].fill(c)
        }
        o.write_all(&r).unwrap()
    }
}
