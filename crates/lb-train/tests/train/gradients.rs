//! Gradients against differences of the loss, in f64.

use candle_core::{DType, Device, Tensor, Var};
use lb_am::LayerKv;
use lb_model::{Differentiable, Past, Worker};
use lb_train::{Aim, Error, loss, right};

use crate::support::compare::flat;
use crate::support::random_checkpoint::Random;

/// Central differences of this step, and what they may be off by, relative to the largest of the gradient.
const STEP: f64 = 1e-5;
const TOLERANCE: f64 = 1e-6;

const TOKENS: [u32; 4] = [7, 301, 44, 120];

/// Numbers between −1 and 1 that look random.
fn numbers(count: usize, seed: f64) -> Vec<f64> {
    (0..count).map(|i| ((i as f64 + 1.0) * 12.9898 + seed).sin() * 0.9).collect()
}

fn tensor(shape: &[usize], seed: f64) -> Tensor {
    Tensor::from_vec(numbers(shape.iter().product(), seed), shape, &Device::Cpu).unwrap()
}

/// The same with one number moved.
fn moved(x: &Tensor, at: usize, by: f64) -> Tensor {
    let mut all = flat(x);
    all[at] += by;
    Tensor::from_vec(all, x.shape(), x.device()).unwrap()
}

fn scalar(x: &Tensor) -> f64 {
    x.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

/// Every `stride`th number of the gradient of `of` by `x`.
fn check(x: &Tensor, stride: usize, of: &dyn Fn(&Tensor) -> Tensor) {
    let var = Var::from_tensor(x).unwrap();
    let grads = of(var.as_tensor()).backward().unwrap();
    let gradient = flat(grads.get(&var).expect("a gradient"));
    let largest = gradient.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
    assert!(largest > 0.0, "a gradient of nothing but zeros");
    for at in (0..gradient.len()).step_by(stride) {
        let [up, down] = [STEP, -STEP].map(|by| scalar(&of(&moved(x, at, by))));
        let difference = (up - down) / (2.0 * STEP);
        let far = (difference - gradient[at]).abs() / largest;
        assert!(far < TOLERANCE, "{at}: {} by the path, {difference} by differences", gradient[at]);
    }
}

/// Norms on heads, biases of projections, stretched rotations, tied heads: what differs between the families.
#[test]
fn by_vectors() {
    for family in ["qwen3", "qwen2", "llama"] {
        let folder = Random::of(family);
        let worker = Worker::load(folder.path()).unwrap();
        let path = Differentiable::of(worker.model(), DType::F64).unwrap();
        let given = path.embeddings(&TOKENS).unwrap().narrow(0, 0, 3).unwrap();
        let vectors = tensor(&[2, worker.config().hidden_size], 0.3);
        check(&vectors, 11, &|vectors| {
            let rows = Tensor::cat(&[vectors, &given], 0).unwrap();
            loss(&path.logits(&rows, None, 4).unwrap(), Aim::Tokens(&TOKENS)).unwrap()
        });
    }
}

/// Of what lies before the rows, over two layers; one slot fills up a shorter head.
#[test]
fn by_values_and_biases() {
    let folder = Random::of("qwen3");
    let worker = Worker::load(folder.path()).unwrap();
    let (path, config) = (Differentiable::of(worker.model(), DType::F64).unwrap(), worker.config());
    let shape = [config.num_key_value_heads, 5, config.head_dim];
    let rows = path.embeddings(&TOKENS).unwrap();
    let chances = candle_nn::ops::softmax(&tensor(&[4, config.vocab_size], 0.9), 1).unwrap();
    let layer = |number: usize, values: &Tensor, bias: &Tensor| LayerKv {
        keys: tensor(&shape, number as f64),
        values: values.clone(),
        bias: Some(bias.clone()),
        scale: config.attention_scale,
        finite: true,
    };
    let values = tensor(&shape, 0.5);
    let dead = moved(&tensor(&shape[..2], 0.7), 4, f64::NEG_INFINITY);
    let of = |values: &Tensor, bias: &Tensor| {
        let layers = (0..config.num_hidden_layers).map(|number| layer(number, values, bias)).collect();
        let past = Past { layers, positions: 9 };
        loss(&path.logits(&rows, Some(&past), 4).unwrap(), Aim::Chances(&chances)).unwrap()
    };
    check(&values, 13, &|values| of(values, &dead));
    let by = tensor(&shape[..2], 0.1);
    check(&by, 1, &|by| of(&values, &(by + &dead).unwrap()));
}

/// Both aims, worked out by hand for one row of three.
#[test]
fn losses_are_those_worked_out_by_hand() {
    let ln = |p: [f64; 3]| Tensor::from_vec(p.map(|p| p.ln() + 4.0).to_vec(), (1, 3), &Device::Cpu).unwrap();
    let logits = ln([0.5, 0.25, 0.25]);
    assert!((scalar(&loss(&logits, Aim::Tokens(&[1])).unwrap()) - 4f64.ln()).abs() < 1e-12);
    let chances = Tensor::new(&[[0.25f32, 0.75, 0.0]], &Device::Cpu).unwrap();
    let expected = 0.25 * 0.5f64.ln() + 0.75 * 3f64.ln();
    assert!((scalar(&loss(&logits, Aim::Chances(&chances)).unwrap()) - expected).abs() < 1e-12);
    check(&logits, 1, &|x| loss(x, Aim::Tokens(&[1])).unwrap());
    check(&logits, 1, &|x| loss(x, Aim::Chances(&chances)).unwrap());
    assert_eq!(right(&Tensor::cat(&[&logits, &logits], 0).unwrap(), &[0, 1]).unwrap(), 1);
    for aim in [Aim::Tokens(&[0, 1]), Aim::Tokens(&[3]), Aim::Chances(&logits.t().unwrap())] {
        assert!(matches!(loss(&logits, aim), Err(Error::Config { field: "aim", .. })));
    }
}
