//! Tensors that Python lends as the library's, and the library's as arrays.

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Tensor, WithDType};
use half::{bf16, f16};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::dlpack::{Array, Kind, Lent};
use crate::errors::{self, OrRaise};

/// Tensors of one argument, layer by layer, and what keeps their memory.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) tensors: Vec<Tensor>,
    /// Whose storage is Python's memory, to be taken out of them again.
    foreign: Vec<Tensor>,
    /// Goes after the tensors.
    lent: Vec<Lent>,
    /// Bytes that had to be copied.
    pub(crate) copied: usize,
}

impl Layers {
    /// One three-dimensional tensor for each layer: of a list of them (of four dimensions where the first is 1, as in
    /// transformers' caches), of an array with layers as its first axis, or of a single layer's.
    pub(crate) fn of(object: &Bound<'_, PyAny>, arg: &'static str) -> PyResult<Self> {
        let mut layers = Self { tensors: Vec::new(), foreign: Vec::new(), lent: Vec::new(), copied: 0 };
        if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
            for item in object.try_iter()? {
                let lent = Lent::of(&item?, arg)?;
                let shape = match lent.shape[..] {
                    [a, b, c] | [1, a, b, c] => [a, b, c],
                    _ => return Err(wrong_shape(arg, &lent.shape, "three dimensions for each layer")),
                };
                layers.add(lent, 1, shape, arg)?;
            }
        } else {
            let lent = Lent::of(object, arg)?;
            let (count, shape) = match lent.shape[..] {
                [a, b, c] => (1, [a, b, c]),
                [count, a, b, c] => (count, [a, b, c]),
                _ => {
                    return Err(wrong_shape(
                        arg,
                        &lent.shape,
                        "[heads, rows, width], or that with a first axis of layers",
                    ));
                }
            };
            layers.add(lent, count, shape, arg)?;
        }
        if layers.tensors.is_empty() {
            return Err(errors::tensor(format!("{arg}: no layer")));
        }
        Ok(layers)
    }

    fn add(&mut self, lent: Lent, count: usize, shape: [usize; 3], arg: &str) -> PyResult<()> {
        match lent.kind {
            Kind::F32 => self.add_as::<f32>(lent, count, shape),
            Kind::F16 => self.add_as::<f16>(lent, count, shape),
            Kind::Bf16 => self.add_as::<bf16>(lent, count, shape),
            other => Err(errors::tensor(format!(
                "{arg}: {} is not computed with; convert it to float32, float16 or bfloat16 first",
                other.name()
            ))),
        }
    }

    fn add_as<T: WithDType>(&mut self, lent: Lent, count: usize, shape: [usize; 3]) -> PyResult<()> {
        let each: usize = shape.iter().product();
        let pointer = lent.pointer::<T>().filter(|_| lent.is_contiguous() && each > 0);
        if let Some(pointer) = pointer {
            for index in 0..count {
                let tensor = borrowed(pointer.wrapping_add(index * each), shape)?;
                self.foreign.push(tensor.clone());
                self.tensors.push(tensor);
            }
        } else {
            let all: Vec<T> = lent.copied();
            self.copied += size_of_val(&all[..]);
            for index in 0..count {
                let own = all[index * each..(index + 1) * each].to_vec();
                self.tensors.push(Tensor::from_vec(own, &shape[..], &Device::Cpu).or_raise()?);
            }
        }
        self.lent.push(lent);
        Ok(())
    }

    /// The same for the biases of slots, `[heads, slots]` or `[layers, heads, slots]`, always copied: they are few.
    pub(crate) fn biases(object: &Bound<'_, PyAny>, arg: &'static str) -> PyResult<Vec<Tensor>> {
        let add = |lent: &Lent, count: usize, shape: [usize; 2]| -> PyResult<Vec<Tensor>> {
            if lent.kind != Kind::F32 {
                return Err(errors::tensor(format!("{arg}: want float32, got {}", lent.kind.name())));
            }
            let all: Vec<f32> = lent.copied();
            let each = shape[0] * shape[1];
            let tensor = |index: usize| {
                Tensor::from_vec(all[index * each..(index + 1) * each].to_vec(), &shape[..], &Device::Cpu)
            };
            (0..count).map(|index| tensor(index).or_raise()).collect()
        };
        let mut out = Vec::new();
        let one = |lent: Lent| match lent.shape[..] {
            [a, b] => add(&lent, 1, [a, b]),
            [count, a, b] => add(&lent, count, [a, b]),
            _ => Err(wrong_shape(arg, &lent.shape, "[heads, slots], or that with a first axis of layers")),
        };
        if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
            for item in object.try_iter()? {
                out.extend(one(Lent::of(&item?, arg)?)?);
            }
        } else {
            out = one(Lent::of(object, arg)?)?;
        }
        Ok(out)
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        // What is computed from these tensors is copied out before they go, so that nobody looks at them any more.
        for tensor in self.foreign.drain(..) {
            // The operation on the CPU cannot fail.
            let _ = tensor.inplace_op1(&TakeBack);
        }
    }
}

fn wrong_shape(arg: &str, got: &[usize], want: &str) -> PyErr {
    errors::tensor(format!("{arg}: want {want}, got the shape {got:?}"))
}

/// A tensor whose storage is memory that somebody else keeps. It must be taken back before it goes.
#[allow(unsafe_code, reason = "candle's tensors own their memory; these do not")]
#[allow(clippy::same_length_and_capacity, reason = "the vector never grows")]
fn borrowed<T: WithDType>(pointer: *const T, shape: [usize; 3]) -> PyResult<Tensor> {
    let length: usize = shape.iter().product();
    // SAFETY: `Lent` has said that so many numbers lie there, aligned, and keeps them. The vector is never grown, written or
    // freed: `TakeBack` takes it out of the tensor and forgets it, also where something panics on the way. (An array that
    // another thread of Python writes to meanwhile gives numbers of before or after, as with NumPy.)
    let numbers = unsafe { Vec::from_raw_parts(pointer.cast_mut(), length, length) };
    Tensor::from_vec(numbers, &shape[..], &Device::Cpu).or_raise()
}

/// Takes memory that is not its own out of a tensor.
struct TakeBack;

impl InplaceOp1 for TakeBack {
    fn name(&self) -> &'static str {
        "take back"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        std::mem::forget(std::mem::replace(storage, CpuStorage::U8(Vec::new())));
        Ok(())
    }
}

/// A tensor as an array of its own dtype.
pub(crate) fn array(tensor: &Tensor) -> candle_core::Result<Array> {
    let (shape, flat) = (tensor.dims(), tensor.flatten_all()?);
    match tensor.dtype() {
        DType::F16 => Ok(Array::f16(flat.to_vec1()?, shape)),
        DType::BF16 => Ok(Array::bf16(flat.to_vec1()?, shape)),
        DType::U32 => Ok(Array::u32(flat.to_vec1()?, shape)),
        _ => Ok(Array::f32(flat.to_dtype(DType::F32)?.to_vec1()?, shape)),
    }
}

/// Numbers `[rows][columns]` of any kind that DLPack knows here, or nested lists of them.
pub(crate) fn rows_of(object: &Bound<'_, PyAny>, arg: &'static str) -> PyResult<Vec<Vec<f32>>> {
    if !object.hasattr("__dlpack__")? {
        return object.extract().or_else(|_| Ok(vec![object.extract::<Vec<f32>>()?]));
    }
    let lent = Lent::of(object, arg)?;
    let flat: Vec<f32> = match lent.kind {
        Kind::F32 => lent.copied(),
        Kind::F16 => lent.copied::<f16>().into_iter().map(f16::to_f32).collect(),
        Kind::Bf16 => lent.copied::<bf16>().into_iter().map(bf16::to_f32).collect(),
        other => {
            return object.call_method0("tolist")?.extract().map_err(|_: PyErr| {
                errors::tensor(format!("{arg}: want numbers such as float32, got {}", other.name()))
            });
        }
    };
    match lent.shape[..] {
        [_] => Ok(vec![flat]),
        [rows, columns] if columns > 0 => {
            debug_assert_eq!(rows * columns, flat.len());
            Ok(flat.chunks(columns).map(<[f32]>::to_vec).collect())
        }
        _ => Err(wrong_shape(arg, &lent.shape, "one or two dimensions")),
    }
}
