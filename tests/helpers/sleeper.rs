//! The first process of a container whose agent is played by a test: it sleeps until it is told to end.
//!
//! The first process of a container ends on no signal that it has no handler for. It uses nothing but the standard
//! library, so that the compiler can build it alone.

// There is no safe wrapper for signals in the standard library.
#![allow(unsafe_code)]

use std::ffi::c_int;

const SIGTERM: c_int = 15;
const SIGINT: c_int = 2;

unsafe extern "C" {
    fn signal(number: c_int, handler: extern "C" fn(c_int)) -> usize;
    fn pause() -> c_int;
    fn _exit(code: c_int) -> !;
}

extern "C" fn end(_: c_int) {
    // SAFETY: it may be called in a handler, and gives nothing back.
    unsafe { _exit(0) }
}

fn main() {
    for number in [SIGTERM, SIGINT] {
        // SAFETY: the handler calls nothing that a handler may not call.
        unsafe { signal(number, end) };
    }
    loop {
        // SAFETY: it has no arguments and touches no memory of ours.
        unsafe { pause() };
    }
}
