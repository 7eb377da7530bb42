//! The registry of selections, and Python callables in it.

use lb_am::registry::{self, Factory, Spec};
use lb_am::selectors::{Budgets, Lists, Needs, Picked};
use lb_am::{Ranking, Scene, Selector, Sharing};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::dlpack::Array;
use crate::errors::{self, OrRaise};
use crate::tensors::{array, rows_of};

/// A Python callable that scores the slots of a layer.
struct Called {
    name: String,
    function: Py<PyAny>,
    needs: Needs,
    lists: Lists,
    sharing: Sharing,
    counts_only: bool,
}

impl std::fmt::Debug for Called {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Called").field("name", &self.name).finish_non_exhaustive()
    }
}

fn failed(error: PyErr) -> lb_am::Error {
    lb_am::Error::Tensor(candle_core::Error::msg(errors::sent_on(error)))
}

impl Called {
    /// Asks the callable for the scores of one layer: `[head][slot]`, or one list of the layer's.
    fn scores(&self, scene: &Scene<'_>, layer: usize) -> lb_am::Result<Vec<Vec<f32>>> {
        let (heads, slots) = (scene.layers()[layer].kv_heads(), scene.layers()[layer].seq_len());
        let asked = Python::attach(|py| -> PyResult<Vec<Vec<f32>>> {
            let view = self.view(py, scene, layer)?;
            let wrap = py.import("latent_briefing._arrays")?.getattr("SelectorLayer")?;
            let view = wrap.call((), Some(&view))?;
            rows_of(&self.function.bind(py).call1((view,))?, "scores")
        });
        let scores = asked.map_err(failed)?;
        let wanted = if self.lists == Lists::PerHead { heads } else { 1 };
        let got = vec![scores.len(), scores.first().map_or(0, Vec::len)];
        if got[0] != wanted || scores.iter().any(|row| row.len() != slots) {
            let expected = format!("[{wanted}, {slots}] from the selector {}", self.name);
            return Err(lb_am::Error::Shape { arg: "scores", expected, got });
        }
        Ok(scores)
    }

    fn view<'py>(&self, py: Python<'py>, scene: &Scene<'_>, layer: usize) -> PyResult<Bound<'py, PyDict>> {
        let own = &scene.layers()[layer];
        let view = PyDict::new(py);
        let set = |name: &str, tensor: &candle_core::Tensor| -> PyResult<()> {
            let tensor = tensor.to_dtype(candle_core::DType::F32).or_raise()?;
            view.set_item(name, Py::new(py, array(&tensor).or_raise()?)?)
        };
        set("keys", &own.keys)?;
        set("values", &own.values)?;
        set("queries", &scene.queries()[layer])?;
        if let Some(bias) = &own.bias {
            set("bias", bias)?;
        }
        let attention = scene.observed(layer).scores();
        let shape = [attention.len(), own.seq_len()];
        view.set_item("attention", Py::new(py, Array::f32(attention.concat(), &shape))?)?;
        if self.needs.context {
            set("context", &scene.context().or_raise()?[layer])?;
        }
        if self.needs.repeat {
            set("repeat", &scene.repeat().or_raise()?[layer])?;
        }
        view.set_item("index", layer)?;
        view.set_item("layers", scene.layers().len())?;
        view.set_item("group_size", scene.group_size())?;
        view.set_item("scale", own.scale)?;
        Ok(view)
    }
}

impl Selector for Called {
    fn spec(&self) -> Spec {
        Spec::new(&self.name)
    }

    fn needs(&self) -> Needs {
        self.needs
    }

    fn budgets(&self) -> Budgets {
        if self.counts_only { Budgets::Counts } else { Budgets::Any }
    }

    fn lists(&self) -> Lists {
        self.lists
    }

    fn sharing(&self) -> Sharing {
        self.sharing
    }

    fn select(&self, scene: &Scene<'_>) -> lb_am::Result<Picked> {
        // Python is asked layer by layer, in order, from this thread; picking is ours.
        let all = (0..scene.layers().len()).map(|layer| self.scores(scene, layer));
        let all = all.collect::<lb_am::Result<Vec<_>>>()?;
        match self.lists {
            Lists::PerHead => {
                let scores = scene.pool_heads(all);
                scene.share_out(&scores)?;
                let picked = scene.each_head(|layer, head| {
                    scene.pick(layer, head, Ranking::by(&scores[layer][head]).padding_last())
                })?;
                let positive = scores.iter().flatten().flatten().all(|score| *score >= 0.0);
                // Scores that hold values fast are weights; others say an order alone.
                Ok(if positive { Picked { importance: scores, ..picked } } else { picked })
            }
            _ => scene.each_layer(|layer| Ok(scene.pool(&all[layer][0]))),
        }
    }
}

/// Registers a Python callable under a name, for the whole process.
#[pyfunction]
#[pyo3(signature = (name, function, about, needs, lists, sharing, counts_only))]
#[allow(clippy::too_many_arguments, reason = "called by one Python function, which names them")]
pub(crate) fn register_selector(
    py: Python<'_>,
    name: String,
    function: Py<PyAny>,
    about: &str,
    needs: Vec<String>,
    lists: &str,
    sharing: &str,
    counts_only: bool,
) -> PyResult<()> {
    if !function.bind(py).is_callable() {
        return Err(errors::config("function", "function: want something that can be called"));
    }
    let mut read = Needs::NOTHING;
    for need in &needs {
        match &**need {
            "queries" => read.queries = true,
            "context" => read.context = true,
            "repeat" => read.repeat = true,
            _ => {
                return Err(errors::config(
                    "needs",
                    format!("needs: {need:?} is none of queries, context, repeat"),
                ));
            }
        }
    }
    let lists = match lists {
        "head" => Lists::PerHead,
        "layer" => Lists::PerLayer,
        _ => return Err(errors::config("lists", format!("lists: {lists:?} is neither head nor layer"))),
    };
    let sharing = match sharing {
        "equal" => Sharing::Equal,
        "layer" => Sharing::Layer { floor: 0.2 },
        "all" => Sharing::All { floor: 0.2 },
        _ => return Err(errors::config("heads", format!("heads: {sharing:?} is none of equal, layer, all"))),
    };
    if lists == Lists::PerLayer && sharing != Sharing::Equal {
        return Err(errors::config("heads", "heads: a list for each layer has no heads to share out among"));
    }
    let named = name.clone();
    let build = move |_: &registry::Arguments<'_>| {
        let function = Python::attach(|py| function.clone_ref(py));
        Ok(Called { name: named.clone(), function, needs: read, lists, sharing, counts_only })
    };
    registry::register(Factory::new(&name, about, build)).or_raise()
}

/// Name, what it keeps, and its arguments with what they are.
type Told = (String, String, Vec<(String, String)>);

/// Every selection that there is.
#[pyfunction]
pub(crate) fn selectors() -> Vec<Told> {
    let told =
        |factory: Factory| (factory.name().to_owned(), factory.about().to_owned(), factory.keys().to_vec());
    registry::factories().into_iter().map(told).collect()
}

/// A selection's text in its usual form.
#[pyfunction]
pub(crate) fn parse_selector(text: &str) -> PyResult<String> {
    Ok(registry::parse(text).or_raise()?.to_string())
}
