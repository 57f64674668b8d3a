//! Sort 100-byte records by their first 10 bytes, in memory, with no framework. args: INPUT-FILE OUTPUT-DIR PARTS THREADS
use std::{
    env, fs,
    io::Write,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};
fn main() {
    let a: Vec<String> = env::args().collect();
    let (parts, threads): (usize, usize) = (a[3].parse().unwrap(), a[4].parse().unwrap());
    let m = unsafe { memmap2::Mmap::map(&fs::File::open(&a[1]).unwrap()).unwrap() };
    let n = m.len() / 100;
    let per = n.div_ceil(threads);
    let m: &[u8] = &m;
    let runs: Vec<Vec<Vec<(u64, u32)>>> = thread::scope(|s| {
        (0..threads)
            .map(|t| {
                s.spawn(move || {
                    let mut out = vec![Vec::with_capacity(per / parts + per / parts / 8); parts];
                    for i in t * per..((t + 1) * per).min(n) {
                        let r = &m[i * 100..];
                        let k = u64::from_be_bytes(r[..8].try_into().unwrap());
                        let p = ((k >> 48) as usize * parts) >> 16;
                        out[p].push((k, i as u32))
                    }
                    out
                })
            })
            .collect::<Vec<_>>()
            .into_iter()
            .map(|h| h.join().unwrap())
            .collect()
    });
    fs::create_dir_all(&a[2]).unwrap();
    let np = &AtomicUsize::new(0);
    let runs = &runs;
    let dir = &a[2];
    thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(move || {
                loop {
                    let p = np.fetch_add(1, Ordering::Relaxed);
                    if p >= parts {
                        break;
                    }
                    let mut v: Vec<(u64, u32)> = runs.iter().flat_map(|r| r[p].iter().copied()).collect();
                    v.sort_unstable_by(|x, y| {
                        x.0.cmp(&y.0).then_with(|| {
                            m[x.1 as usize * 100 + 8..x.1 as usize * 100 + 10]
                                .cmp(&m[y.1 as usize * 100 + 8..y.1 as usize * 100 + 10])
                        })
                    });
                    let mut o = std::io::BufWriter::with_capacity(
                        1 << 20,
                        fs::File::create(format!("{dir}/part-{p:05}")).unwrap(),
                    );
                    for (_, i) in v {
                        o.write_all(&m[i as usize * 100..i as usize * 100 + 100]).unwrap()
                    }
                }
            });
        }
    });
}
