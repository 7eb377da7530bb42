//! scratch
use candle_core::{DType, Device, Tensor};
use latent_briefing::am::{Compaction, Compactor, LayerKv, Selection};
fn main() {
    let arg = |i: usize, d: usize| std::env::args().nth(i).map_or(d, |x| x.parse().unwrap());
    let (s, g, tokens, layers) = (arg(1, 16384), arg(2, 5), arg(3, 32), arg(4, 2));
    let ratio = std::env::args().nth(5).map_or(0.1, |x| x.parse::<f64>().unwrap());
    let (h, d) = (8, 128);
    for dtype in [DType::F32, DType::BF16] { if std::env::var("DT").is_ok_and(|x| x != dtype.as_str()) { continue; }
        let t = |r: usize, n: usize, sc: f64| (Tensor::randn(0f32, 1.0, (h, r, n), &Device::Cpu).unwrap() * sc).unwrap();
        let kv: Vec<LayerKv> = (0..layers).map(|_| LayerKv::new(t(s, d, 1.0).to_dtype(dtype).unwrap(), t(s, d, 1.0).to_dtype(dtype).unwrap(), None).unwrap()).collect();
        let q: Vec<Tensor> = (0..layers).map(|_| t(g * tokens, d, 2.0).to_dtype(dtype).unwrap()).collect();
        for selection in [Selection::PerLayer, Selection::PerHead] { if std::env::var("ONE").is_ok() && selection != Selection::PerLayer { continue; }
            let c = Compaction::keep_ratio(ratio).with_selection(selection);
            let mut best: Option<(f64, String)> = None;
            for _ in 0..std::env::var("RUNS").map_or(5, |x| x.parse().unwrap()) {
                let begin = std::time::Instant::now();
                let r = Compactor::new(&kv, &q, &c).group_size(g).run().unwrap().report;
                let s = begin.elapsed().as_secs_f64();
                let ms = |x: std::time::Duration| x.as_secs_f64() * 1e3 / layers as f64;
                let text = format!("{:?}: check+all {:.1} scores {:.1} mask {:.2} beta {:.1} values {:.1} total {:.1} ms per layer", dtype, s * 1e3 / layers as f64, ms(r.timing.scores), ms(r.timing.mask), ms(r.timing.beta), ms(r.timing.values), ms(r.timing.total));
                if best.as_ref().is_none_or(|(b, _)| s < *b) { best = Some((s, text)); }
            }
            let (time, text) = best.unwrap();
            let n = (g * tokens) as f64; let hd = (h * d) as f64;
            let flops = layers as f64 * (4.0 * n * hd * s as f64 + ratio * s as f64 * (n * hd * 6.0 + 2.0 * n * n * h as f64));
            println!("{text} {:.0} GFLOP/s", flops / time / 1e9);
        }
    }
}
