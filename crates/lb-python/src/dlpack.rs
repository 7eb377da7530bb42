//! Tensors over the border, by DLPack: in without a copy where memory allows, out always without one.
//!
//! The structures are those of DLPack 1.0 (`dlpack.h`) and of what came before it.

#![allow(unsafe_code, reason = "DLPack is an interface of C")]
#![allow(clippy::cast_possible_wrap, reason = "lengths of what is in memory fit")]

use std::ffi::{CStr, c_void};
use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::errors;

const CPU: i32 = 1;
/// Memory of the CPU that a GPU reads directly.
const PINNED: [i32; 2] = [3, 11];
const OLD: &CStr = c"dltensor";
const OLD_USED: &CStr = c"used_dltensor";
const NEW: &CStr = c"dltensor_versioned";
const NEW_USED: &CStr = c"used_dltensor_versioned";
/// The attribute of arrays whose whole numbers are the bits of bfloat16.
const BFLOAT16: &str = "latent_briefing_bfloat16";
/// The version of the structures that is asked for.
const VERSION: (u32, u32) = (1, 0);

#[repr(C)]
#[derive(Clone, Copy)]
struct Device {
    kind: i32,
    number: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct DataType {
    code: u8,
    bits: u8,
    lanes: u16,
}

#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device: Device,
    ndim: i32,
    dtype: DataType,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
struct Managed {
    tensor: DlTensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Managed)>,
}

#[repr(C)]
struct Versioned {
    major: u32,
    minor: u32,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Versioned)>,
    flags: u64,
    tensor: DlTensor,
}

/// What the numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    F32,
    F16,
    Bf16,
    U32,
    /// What no compaction reads, by its name.
    Other(DataTypeName),
}

/// Code and bits of a dtype that is not read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataTypeName(u8, u8);

impl Kind {
    fn of(dtype: DataType) -> Self {
        match (dtype.code, dtype.bits, dtype.lanes) {
            (2, 32, 1) => Self::F32,
            (2, 16, 1) => Self::F16,
            (4, 16, 1) => Self::Bf16,
            (1, 32, 1) => Self::U32,
            (code, bits, _) => Self::Other(DataTypeName(code, bits)),
        }
    }

    fn dtype(self) -> DataType {
        let (code, bits) = match self {
            Self::F32 => (2, 32),
            Self::F16 => (2, 16),
            Self::Bf16 => (4, 16),
            Self::U32 => (1, 32),
            Self::Other(DataTypeName(code, bits)) => (code, bits),
        };
        DataType { code, bits, lanes: 1 }
    }

    /// Bytes of a number.
    pub(crate) fn size(self) -> usize {
        usize::from(self.dtype().bits).div_ceil(8)
    }

    /// As NumPy calls it.
    pub(crate) fn name(self) -> String {
        match self {
            Self::F32 => "float32".to_owned(),
            Self::F16 => "float16".to_owned(),
            Self::Bf16 => "bfloat16".to_owned(),
            Self::U32 => "uint32".to_owned(),
            Self::Other(DataTypeName(code, bits)) => {
                let name = match code {
                    0 => "int",
                    1 => "uint",
                    2 => "float",
                    4 => "bfloat",
                    5 => "complex",
                    6 => "bool",
                    _ => "dtype of code ",
                };
                format!("{name}{bits}")
            }
        }
    }
}

/// A tensor that Python lends: shape, strides in numbers, and where it lies. It is given back when this goes.
#[derive(Debug)]
pub(crate) struct Lent {
    pub(crate) kind: Kind,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<isize>,
    data: *const u8,
    owner: Owner,
}

#[derive(Debug)]
enum Owner {
    Old(*mut Managed),
    New(*mut Versioned),
}

// SAFETY: the memory is read alone, by whichever thread computes; the owner is freed by the thread that drops this, with the
// interpreter attached (`Drop`).
unsafe impl Send for Lent {}
// SAFETY: as above; nothing here changes behind a shared reference.
unsafe impl Sync for Lent {}

impl Lent {
    /// Borrows `object`, which is called `arg` in errors.
    pub(crate) fn of(object: &Bound<'_, PyAny>, arg: &str) -> PyResult<Self> {
        let py = object.py();
        let Ok(method) = object.getattr("__dlpack__") else {
            let given = object.get_type().name()?;
            return Err(errors::tensor(format!(
                "{arg}: want an array of NumPy or of whatever speaks DLPack (PyTorch, JAX), got {given}"
            )));
        };
        let place = object.call_method0("__dlpack_device__").and_then(|place| place.extract());
        let (kind, number): (i32, i32) =
            place.map_err(|error| errors::tensor(format!("{arg}: {}", error.value(py))))?;
        if kind != CPU && !PINNED.contains(&kind) {
            return Err(errors::tensor(format!(
                "{arg}: is on {} and is computed with on the CPU here; hand over arg.cpu(), or for JAX jax.device_put(arg, \
                 jax.devices(\"cpu\")[0])",
                device_name(kind, number)
            )));
        }
        let asked = PyDict::new(py);
        asked.set_item("max_version", VERSION)?;
        let capsule = match method.call((), Some(&asked)) {
            // From before DLPack 1.0.
            Err(error) if error.is_instance_of::<PyTypeError>(py) => method.call0(),
            other => other,
        };
        let capsule = capsule.map_err(|error| errors::tensor(format!("{arg}: {}", error.value(py))))?;
        let mut lent = Self::from_capsule(&capsule, arg)?;
        // What NumPy cannot name travels as whole numbers with a mark.
        if lent.kind == Kind::Other(DataTypeName(1, 16)) && object.hasattr(BFLOAT16)? {
            lent.kind = Kind::Bf16;
        }
        Ok(lent)
    }

    fn from_capsule(capsule: &Bound<'_, PyAny>, arg: &str) -> PyResult<Self> {
        let pointer = capsule.as_ptr();
        let named = |name: &CStr| {
            // SAFETY: `pointer` is a live Python object; the call looks whether it is a capsule of this name.
            unsafe { ffi::PyCapsule_IsValid(pointer, name.as_ptr()) == 1 }
        };
        let take = |name: &CStr, used: &'static CStr| -> PyResult<*mut c_void> {
            // SAFETY: the capsule is valid under this name, so that it holds the structure that the name stands for. Once it is
            // renamed its own destructor leaves that to us.
            unsafe {
                let held = ffi::PyCapsule_GetPointer(pointer, name.as_ptr());
                if held.is_null() || ffi::PyCapsule_SetName(pointer, used.as_ptr()) != 0 {
                    return Err(PyErr::fetch(capsule.py()));
                }
                Ok(held)
            }
        };
        // SAFETY: the structures are what the names promise, and stay until their deleter is called, which `Drop` does.
        unsafe {
            if named(NEW) {
                let held = take(NEW, NEW_USED)?.cast::<Versioned>();
                return Self::read(&raw const (*held).tensor, Owner::New(held), arg);
            }
            if named(OLD) {
                let held = take(OLD, OLD_USED)?.cast::<Managed>();
                return Self::read(&raw const (*held).tensor, Owner::Old(held), arg);
            }
        }
        Err(errors::tensor(format!("{arg}: __dlpack__ gave no fresh DLPack capsule")))
    }

    /// # Safety
    /// `tensor` is a DLPack tensor that lives as long as `owner`.
    unsafe fn read(tensor: *const DlTensor, owner: Owner, arg: &str) -> PyResult<Self> {
        // SAFETY: as this function's own.
        let DlTensor { data, ndim, dtype, shape, strides, byte_offset, .. } = unsafe { &*tensor };
        let mut lent = Self {
            kind: Kind::of(*dtype),
            shape: Vec::new(),
            strides: Vec::new(),
            data: data.cast::<u8>().cast_const().wrapping_add(*byte_offset as usize),
            owner,
        };
        let ndim = usize::try_from(*ndim).unwrap_or(0);
        for axis in 0..ndim {
            // SAFETY: DLPack has `ndim` numbers there.
            let length = unsafe { *shape.add(axis) };
            let length = usize::try_from(length);
            lent.shape.push(length.map_err(|_| errors::tensor(format!("{arg}: has a negative length")))?);
        }
        if strides.is_null() {
            lent.strides = row_major(&lent.shape);
        } else {
            // SAFETY: likewise.
            lent.strides = (0..ndim).map(|axis| unsafe { *strides.add(axis) as isize }).collect();
        }
        Ok(lent)
    }

    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the numbers lie one behind the other.
    pub(crate) fn is_contiguous(&self) -> bool {
        let want = row_major(&self.shape);
        let same = |axis: usize| self.shape[axis] == 1 || self.strides[axis] == want[axis];
        (0..self.shape.len()).all(same)
    }

    /// Where numbers of type `T` begin, where they lie as `T` has to.
    pub(crate) fn pointer<T>(&self) -> Option<*const T> {
        let pointer = self.data.cast::<T>();
        (size_of::<T>() == self.kind.size() && pointer.is_aligned() && !pointer.is_null()).then_some(pointer)
    }

    /// The numbers one behind the other, copied.
    ///
    /// The size of `T` must be that of the kind.
    pub(crate) fn copied<T: Copy>(&self) -> Vec<T> {
        assert_eq!(size_of::<T>(), self.kind.size(), "numbers of another size");
        let mut out = Vec::with_capacity(self.elements());
        let mut index = vec![0_usize; self.shape.len()];
        for _ in 0..self.elements() {
            let steps = index.iter().zip(&self.strides);
            let offset: isize = steps.map(|(at, stride)| *at as isize * stride).sum();
            // SAFETY: shape and strides describe memory that the owner keeps, and every index is within the shape. Nothing is
            // said of alignment, so none is taken for granted.
            out.push(unsafe { self.data.cast::<T>().offset(offset).read_unaligned() });
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        out
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // Deleters of NumPy and others touch Python objects.
        Python::attach(|_| {
            // SAFETY: the capsule was renamed, so that nobody else calls the deleter, and this happens once.
            unsafe {
                match self.owner {
                    Owner::Old(held) => {
                        if let Some(deleter) = (*held).deleter {
                            deleter(held);
                        }
                    }
                    Owner::New(held) => {
                        if let Some(deleter) = (*held).deleter {
                            deleter(held);
                        }
                    }
                }
            }
        });
    }
}

fn row_major(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis] as isize;
    }
    strides
}

fn device_name(kind: i32, number: i32) -> String {
    let name = match kind {
        2 => "cuda",
        4 => "opencl",
        7 => "vulkan",
        8 => "metal",
        10 => "rocm",
        13 => "cuda (managed)",
        14 => "oneapi",
        other => return format!("a device of DLPack's kind {other}"),
    };
    format!("{name}:{number}")
}

/// Numbers that Python may borrow; nothing is copied, and they live as long as anyone looks at them.
#[pyclass(frozen, module = "latent_briefing._native")]
#[derive(Debug)]
pub(crate) struct Array {
    inner: Arc<Numbers>,
}

#[derive(Debug)]
struct Numbers {
    kind: Kind,
    shape: Vec<i64>,
    strides: Vec<i64>,
    data: Data,
}

#[derive(Debug)]
enum Data {
    F32(Vec<f32>),
    F16(Vec<half::f16>),
    Bf16(Vec<half::bf16>),
    U32(Vec<u32>),
}

impl Array {
    fn new(kind: Kind, shape: &[usize], data: Data) -> Self {
        let strides = row_major(shape).into_iter().map(|stride| stride as i64).collect();
        let shape = shape.iter().map(|length| *length as i64).collect();
        Self { inner: Arc::new(Numbers { kind, shape, strides, data }) }
    }

    pub(crate) fn f32(data: Vec<f32>, shape: &[usize]) -> Self {
        Self::new(Kind::F32, shape, Data::F32(data))
    }

    pub(crate) fn f16(data: Vec<half::f16>, shape: &[usize]) -> Self {
        Self::new(Kind::F16, shape, Data::F16(data))
    }

    pub(crate) fn bf16(data: Vec<half::bf16>, shape: &[usize]) -> Self {
        Self::new(Kind::Bf16, shape, Data::Bf16(data))
    }

    pub(crate) fn u32(data: Vec<u32>, shape: &[usize]) -> Self {
        Self::new(Kind::U32, shape, Data::U32(data))
    }

    fn tensor(&self, as_bits: bool) -> DlTensor {
        let numbers = &*self.inner;
        let data: *const c_void = match &numbers.data {
            Data::F32(data) => data.as_ptr().cast(),
            Data::F16(data) => data.as_ptr().cast(),
            Data::Bf16(data) => data.as_ptr().cast(),
            Data::U32(data) => data.as_ptr().cast(),
        };
        let dtype = if as_bits {
            DataType { code: 1, bits: numbers.kind.dtype().bits, lanes: 1 }
        } else {
            numbers.kind.dtype()
        };
        DlTensor {
            data: data.cast_mut(),
            device: Device { kind: CPU, number: 0 },
            ndim: numbers.shape.len() as i32,
            dtype,
            shape: numbers.shape.as_ptr().cast_mut(),
            strides: numbers.strides.as_ptr().cast_mut(),
            byte_offset: 0,
        }
    }

    /// Keeps the numbers alive for who borrows them.
    fn lease(&self) -> *mut c_void {
        Arc::into_raw(Arc::clone(&self.inner)).cast_mut().cast()
    }
}

#[pymethods]
impl Array {
    #[getter]
    fn dtype(&self) -> String {
        self.inner.kind.name()
    }

    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.inner.shape)
    }

    fn __dlpack_device__(&self) -> (i32, i32) {
        (CPU, 0)
    }

    /// A capsule of DLPack. `as_bits` calls the numbers whole ones, for libraries without bfloat16.
    #[pyo3(signature = (*, stream = None, max_version = None, dl_device = None, copy = None, as_bits = false))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
        as_bits: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        drop(stream);
        if dl_device.is_some_and(|(kind, _)| kind != CPU) || copy == Some(true) {
            return Err(pyo3::exceptions::PyBufferError::new_err(
                "these numbers are on the CPU and are not copied",
            ));
        }
        let tensor = self.tensor(as_bits);
        let (pointer, name): (*mut c_void, &'static CStr) =
            if max_version.is_some_and(|(major, _)| major >= 1) {
                let held = Versioned {
                    major: VERSION.0,
                    minor: VERSION.1,
                    context: self.lease(),
                    deleter: Some(free_new),
                    flags: 0,
                    tensor,
                };
                (Box::into_raw(Box::new(held)).cast(), NEW)
            } else {
                let held = Managed { tensor, context: self.lease(), deleter: Some(free_old) };
                (Box::into_raw(Box::new(held)).cast(), OLD)
            };
        // SAFETY: the pointer is a live structure of the kind that the name promises, and `close` frees it where nobody took it.
        unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyCapsule_New(pointer, name.as_ptr(), Some(close))) }
    }
}

/// # Safety
/// `held` was made by [`Array::__dlpack__`] and is freed once.
unsafe extern "C" fn free_old(held: *mut Managed) {
    // SAFETY: as above.
    unsafe {
        let held = Box::from_raw(held);
        drop(Arc::from_raw(held.context.cast::<Numbers>().cast_const()));
    }
}

/// # Safety
/// As [`free_old`].
unsafe extern "C" fn free_new(held: *mut Versioned) {
    // SAFETY: as above.
    unsafe {
        let held = Box::from_raw(held);
        drop(Arc::from_raw(held.context.cast::<Numbers>().cast_const()));
    }
}

/// # Safety
/// Called by Python with a capsule of [`Array::__dlpack__`].
unsafe extern "C" fn close(capsule: *mut ffi::PyObject) {
    // SAFETY: whoever takes what is inside renames the capsule first; under its first name it is still ours.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, OLD.as_ptr()) == 1 {
            free_old(ffi::PyCapsule_GetPointer(capsule, OLD.as_ptr()).cast());
        } else if ffi::PyCapsule_IsValid(capsule, NEW.as_ptr()) == 1 {
            free_new(ffi::PyCapsule_GetPointer(capsule, NEW.as_ptr()).cast());
        }
    }
}
