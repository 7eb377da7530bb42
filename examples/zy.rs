//! scratch
use latent_briefing::am::kernel::*;
use half::bf16;
fn main() {
    for (tokens, rows, columns) in [(1, 3072, 1024), (1, 1024, 3072), (1, 151936, 1024), (2, 3072, 1024), (8, 3072, 1024), (12, 3072, 1024), (13, 3072, 1024), (16, 3072, 1024)] {
        let x = vec![0.5f32; tokens * columns];
        let copies = (400_000_000usize / (rows * columns)).clamp(1, 40);
        let w = vec![0.25f32; rows * columns * copies];
        let b = vec![bf16::from_f32(0.25); rows * columns * copies];
        let mut out = vec![0f32; tokens * rows];
        for (name, n, size) in [("f32", Numbers::F32(&w), 4), ("bf16", Numbers::Bf16(&b), 2)] {
            let mut times: Vec<f64> = (0..5).map(|_| { let s = std::time::Instant::now(); for c in 0..copies { product(&x, n.range(c * rows * columns, rows * columns), columns, true, &mut out); } s.elapsed().as_secs_f64() }).collect();
            times.sort_by(f64::total_cmp);
            println!("{tokens}x{rows}x{columns} {name}: {:.1} GB/s, {:.0} GFLOP/s", 1e-9 * (size * rows * columns * copies) as f64 / times[2], 2e-9 * (tokens * rows * columns * copies) as f64 / times[2]);
        }
    }
}
