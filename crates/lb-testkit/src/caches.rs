//! Seeded caches to compact: plain noise, and scenes in which a task asks for a few facts.

use candle_core::{DType, Device, Tensor};
use lb_am::LayerKv;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Sizes of a generated cache.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Layers, each with keys and values of its own.
    pub layers: usize,
    /// KV heads of each.
    pub heads: usize,
    /// Slots of each.
    pub seq_len: usize,
    /// Length of a key, value or query.
    pub head_dim: usize,
    /// Queries of each head.
    pub queries: usize,
}

/// A cache that a test in f64 goes through at once.
pub const SMALL: Dims = Dims { layers: 2, heads: 2, seq_len: 48, head_dim: 8, queries: 6 };

/// Layers with the queries of one task.
#[derive(Clone)]
pub struct Case {
    /// Keys and values of each layer.
    pub layers: Vec<LayerKv>,
    /// `[heads, queries, head_dim]` for each layer.
    pub queries: Vec<Tensor>,
}

impl Case {
    /// Keys and values in another dtype; queries stay f32.
    #[must_use]
    pub fn to_dtype(&self, dtype: DType) -> Self {
        let cast = |tensor: &Tensor| tensor.to_dtype(dtype).unwrap();
        let layers = self.layers.iter();
        let layers = layers.map(|l| LayerKv { keys: cast(&l.keys), values: cast(&l.values), ..l.clone() });
        Self { layers: layers.collect(), queries: self.queries.clone() }
    }

    /// The same case with biases `[heads][seq_len]` on every layer.
    #[must_use]
    pub fn with_bias(&self, bias: impl Fn(usize, usize) -> f32) -> Self {
        let add = |layer: &LayerKv| {
            let rows: Vec<Vec<f32>> =
                (0..layer.kv_heads()).map(|h| (0..layer.seq_len()).map(|j| bias(h, j)).collect()).collect();
            let bias = Tensor::new(rows, &Device::Cpu).unwrap();
            LayerKv { bias: Some(bias), ..layer.clone() }
        };
        Self { layers: self.layers.iter().map(add).collect(), queries: self.queries.clone() }
    }
}

/// A number from a normal distribution, as the sum of twelve uniform ones.
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0
}

/// Normal numbers of standard deviation `scale`, f32.
pub fn noise(rng: &mut ChaCha8Rng, dims: (usize, usize, usize), scale: f32) -> Tensor {
    let count = dims.0 * dims.1 * dims.2;
    let data: Vec<f32> = (0..count).map(|_| normal(rng) * scale).collect();
    Tensor::from_vec(data, dims, &Device::Cpu).unwrap()
}

/// The generator of everything here.
pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Independent normal keys, values and queries; `sharpness` scales the logits.
pub fn random(dims: Dims, sharpness: f32, seed: u64) -> Case {
    let mut rng = rng(seed);
    let kv = (dims.heads, dims.seq_len, dims.head_dim);
    let mut case = Case { layers: Vec::new(), queries: Vec::new() };
    for _ in 0..dims.layers {
        let (keys, values) = (noise(&mut rng, kv, 1.0), noise(&mut rng, kv, 1.0));
        case.layers.push(LayerKv::new(keys, values, None).unwrap());
        case.queries.push(noise(&mut rng, (dims.heads, dims.queries, dims.head_dim), sharpness));
    }
    case
}

/// A cache with topics, and two sets of queries about the same facts: the task's, to fit on, and the answer's, held
/// out. Keys lie around topic centres and values follow keys, as they do in a trained model, so that what is dropped
/// resembles what is kept.
pub struct Scene {
    /// The cache, with the task's queries.
    pub task: Case,
    /// The answer's queries for each layer, twice as many.
    pub answer: Vec<Tensor>,
}

/// Makes one of six topics and four facts.
pub fn scene(dims: Dims, seed: u64) -> Scene {
    const TOPICS: usize = 6;
    const FACTS: usize = 4;
    let mut rng = rng(seed);
    let Dims { heads, seq_len, head_dim, queries, .. } = dims;
    let facts: Vec<usize> = (0..FACTS).map(|_| rng.random_range(0..seq_len)).collect();
    let mut scene = Scene { task: Case { layers: vec![], queries: vec![] }, answer: vec![] };
    for _ in 0..dims.layers {
        let centres = noise(&mut rng, (heads, TOPICS, head_dim), 1.0);
        let topic: Vec<u32> = (0..seq_len).map(|_| rng.random_range(0..TOPICS as u32)).collect();
        let topic = Tensor::new(topic, &Device::Cpu).unwrap();
        let keys = (centres.index_select(&topic, 1).unwrap()
            + noise(&mut rng, (heads, seq_len, head_dim), 0.6))
        .unwrap();
        let map = noise(&mut rng, (heads, head_dim, head_dim), 1.0 / (head_dim as f32).sqrt());
        let values = (keys.matmul(&map).unwrap() + noise(&mut rng, (heads, seq_len, head_dim), 0.4)).unwrap();
        let mut ask = |count: usize| {
            let about: Vec<u32> = (0..count).map(|i| facts[i % FACTS] as u32).collect();
            let about = Tensor::new(about, &Device::Cpu).unwrap();
            let aim = (keys.index_select(&about, 1).unwrap() * 1.5).unwrap();
            (aim + noise(&mut rng, (heads, count, head_dim), 0.8)).unwrap()
        };
        scene.task.queries.push(ask(queries));
        scene.answer.push(ask(2 * queries));
        scene.task.layers.push(LayerKv::new(keys.clone(), values, None).unwrap());
    }
    scene
}
