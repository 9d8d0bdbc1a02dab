// SPDX-License-Identifier: MIT OR Apache-2.0
//! Instructions of the BPF machine that rustc does not make by itself: atomics, loops that the
//! verifier walks once, numbers that the compiler must not reason about.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_loop;

/// The same number, of which the compiler knows nothing.
///
/// VERIFIER(6.18): "invalid access to packet": from a check that the frame has `total_len` bytes
/// the compiler concludes that a header within `total_len` needs no check of its own; the verifier
/// cannot follow.
#[inline(always)]
pub(crate) fn opaque(mut value: usize) -> usize {
    // SAFETY: a register move. (Without an instruction, two lines of source would share one offset
    // in the line information, which the kernel refuses.)
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) value, options(nomem, nostack)) };
    value
}

#[inline(always)]
pub(crate) fn run_loop<F: FnMut() -> bool>(limit: u32, step: &mut F) {
    // SAFETY: `body` is given the closure it was made for, on this program's stack.
    unsafe {
        bpf_loop(
            limit,
            body::<F> as *mut c_void,
            core::ptr::from_mut(step).cast(),
            0,
        );
    }
}

/// What `bpf_loop` calls: 0 goes on, 1 ends the loop.
extern "C" fn body<F: FnMut() -> bool>(_index: u32, step: *mut c_void) -> i64 {
    // SAFETY: see `run_loop`.
    let step = unsafe { &mut *step.cast::<F>() };
    i64::from(!step())
}

/// Atomic compare-and-exchange of one word; what was there before.
///
/// The BPF target of rustc has no `AtomicU64::compare_exchange`, so this is the instruction itself
/// (kernel 5.12, `-C target-cpu=v3`).
#[inline(always)]
pub(crate) fn compare_exchange(word: *mut u64, old: u64, new: u64) -> u64 {
    let mut seen = old;
    // SAFETY: `word` points into a map value, 8-aligned by the array's layout.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inlateout("r0") seen,
        );
    }
    seen
}

/// Atomic addition; whose old value nobody wants.
#[inline(always)]
pub(crate) fn fetch_add(word: *mut u64, delta: u64) {
    // SAFETY: `word` points into a map value, 8-aligned by the array's layout.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({word} + 0) += {delta}",
            word = in(reg) word,
            delta = in(reg) delta,
        );
    }
}
