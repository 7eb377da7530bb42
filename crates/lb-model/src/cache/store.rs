//! Writing keys and values into a cache's buffer, in its dtype.

use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Tensor};
use lb_kernels::{f32_to_bf16, f32_to_f16};
use rayon::prelude::*;

use crate::Result;
use crate::plain::is_plain;

/// Numbers for which a second thread is worth its while.
const MANY: usize = 1 << 15;

/// Writes `x`, `[1, heads, tokens, d]`, from slot `at` on into `buffer`, `[1, heads, capacity, d]`, where there is room.
///
/// The buffer is locked meanwhile. Where it is `shared`, readers of its views in other threads wait for that lock, maybe in
/// every thread of the pool, and so the writer must not wait for the pool.
pub(super) fn store(buffer: &Tensor, x: &Tensor, at: usize, shared: bool) -> Result<()> {
    if fits(buffer, x, at) {
        return Ok(buffer.inplace_op2(x, &Store { at, shared })?);
    }
    Ok(buffer.slice_set(&x.to_dtype(buffer.dtype())?.contiguous()?, 2, at)?)
}

/// Whether it can be done in one step; the plain operations say what is wrong.
fn fits(buffer: &Tensor, x: &Tensor, at: usize) -> bool {
    let (&[1, heads, capacity, dim], &[1, x_heads, tokens, x_dim]) = (buffer.dims(), x.dims()) else {
        return false;
    };
    let plain = is_plain(x) && matches!(buffer.dtype(), DType::F32 | DType::BF16 | DType::F16);
    let alike = (heads, dim) == (x_heads, x_dim) && at + tokens <= capacity;
    plain && alike && dim > 0 && tokens > 0 && buffer.is_contiguous() && x.stride()[3] == 1
}

struct Store {
    at: usize,
    shared: bool,
}

impl InplaceOp2 for Store {
    fn name(&self) -> &'static str {
        "store-slots"
    }

    fn cpu_fwd(
        &self,
        buffer: &mut CpuStorage,
        to: &Layout,
        x: &CpuStorage,
        from: &Layout,
    ) -> candle_core::Result<()> {
        let x = &x.as_slice::<f32>()?[from.start_offset()..];
        let start = to.start_offset();
        match buffer {
            CpuStorage::F32(buffer) => {
                self.write(&mut buffer[start..], to, x, from, |x, to| to.copy_from_slice(x))
            }
            CpuStorage::BF16(buffer) => self.write(&mut buffer[start..], to, x, from, f32_to_bf16),
            CpuStorage::F16(buffer) => self.write(&mut buffer[start..], to, x, from, f32_to_f16),
            _ => candle_core::bail!("a cache is in f32, bf16 or f16"),
        }
    }
}

impl Store {
    fn write<T: Send>(
        &self,
        buffer: &mut [T],
        to: &Layout,
        x: &[f32],
        from: &Layout,
        copy: impl Fn(&[f32], &mut [T]) + Sync,
    ) -> candle_core::Result<()> {
        let ((_, heads, capacity, dim), tokens) = (to.shape().dims4()?, from.dims()[2]);
        let (head_step, token_step) = (from.stride()[1], from.stride()[2]);
        let one_head = |(head, slots): (usize, &mut [T])| {
            let slots = slots[self.at * dim..].chunks_exact_mut(dim).take(tokens);
            for (token, slot) in slots.enumerate() {
                copy(&x[head * head_step + token * token_step..][..dim], slot);
            }
        };
        let buffer = &mut buffer[..heads * capacity * dim];
        if self.shared || heads * tokens * dim < MANY {
            buffer.chunks_exact_mut(capacity * dim).enumerate().for_each(one_head);
        } else {
            buffer.par_chunks_exact_mut(capacity * dim).enumerate().for_each(one_head);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use candle_core::{DType, Device, Tensor};

    use super::store;
    use crate::Result;

    /// Contiguous and as a view of a projection, few tokens and many, in every dtype, to the bit.
    #[test]
    fn slots_are_written_as_by_plain_operations() -> Result<()> {
        const DIM: usize = 24;
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            for tokens in [1, 5, 900] {
                let rows = Tensor::randn(0f32, 1.0, (tokens, 2 * DIM), &Device::Cpu)?;
                let view = rows.reshape((tokens, 2, DIM))?.transpose(0, 1)?.unsqueeze(0)?;
                let plain = Tensor::ones((1, 2, tokens + 7, DIM), dtype, &Device::Cpu)?;
                plain.slice_set(&view.to_dtype(dtype)?.contiguous()?, 2, 3)?;
                for (x, shared) in [(view.clone(), false), (view.contiguous()?, false), (view.clone(), true)]
                {
                    let buffer = Tensor::ones((1, 2, tokens + 7, DIM), dtype, &Device::Cpu)?;
                    store(&buffer, &x, 3, shared)?;
                    let numbers = |x: &Tensor| x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
                    assert_eq!(numbers(&buffer)?, numbers(&plain)?, "{dtype:?}, {tokens} tokens");
                    assert!(store(&buffer, &x, 8, shared).is_err());
                }
            }
        }
        Ok(())
    }

    /// Every thread of the pool waits, as readers of a view would for the lock.
    #[test]
    fn a_shared_buffer_is_written_without_the_pool() -> Result<()> {
        let x = Tensor::ones((1, 4, 900, 24), DType::F32, &Device::Cpu)?;
        let buffer = x.zeros_like()?;
        let (release, wait) = channel::<()>();
        let (wait, (written, done)) = (Arc::new(Mutex::new(wait)), channel());
        for _ in 0..rayon::current_num_threads() {
            let wait = wait.clone();
            rayon::spawn(move || drop(wait.lock().map(|wait| wait.recv())));
        }
        let (to, from) = (buffer.clone(), x.clone());
        let writer = std::thread::spawn(move || written.send(store(&to, &from, 0, true)));
        let in_time = done.recv_timeout(Duration::from_mins(1));
        drop(release);
        let sent = writer.join();
        assert!(matches!(in_time, Ok(Ok(()))) && matches!(sent, Ok(Ok(()))));
        assert_eq!(buffer.flatten_all()?.to_vec1::<f32>()?, x.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }
}
