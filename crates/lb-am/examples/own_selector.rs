//! A selection of one's own: registered under a name, then used like any other.

use candle_core::{Device, Tensor};
use lb_am::registry::{self, Factory, Spec};
use lb_am::selectors::{Budgets, Needs, Picked};
use lb_am::{Compaction, LayerKv, Ranking, Result, Scene, Selector, compact};

/// Keeps the positions with the largest values.
#[derive(Debug)]
struct ValueNorm;

impl Selector for ValueNorm {
    fn spec(&self) -> Spec {
        Spec::new("value-norm")
    }
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }
    fn budgets(&self) -> Budgets {
        Budgets::Any
    }
    fn select(&self, scene: &Scene<'_>) -> Result<Picked> {
        scene.each_head(|layer, head| {
            let norms = scene.layers()[layer].values.get(head)?.sqr()?.sum(1)?.to_vec1::<f32>()?;
            scene.pick(layer, head, Ranking::by(&scene.pool(&norms)))
        })
    }
}

fn main() -> Result<()> {
    registry::register(Factory::new("value-norm", "positions with the largest values", |_| Ok(ValueNorm)))?;
    let random = |dims| Tensor::randn(0f32, 1.0, dims, &Device::Cpu);
    let layer = LayerKv::new(random((2, 100, 16))?, random((2, 100, 16))?, None)?;
    let config = Compaction::keep_ratio(0.1).with_selection("value-norm".parse()?);
    let compacted = compact(&[layer], &[random((2, 12, 16))?], &config)?;
    println!("{}: {:?}", config.selection, compacted.layers[0].kept.lists());
    Ok(())
}
