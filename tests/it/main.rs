//! Drives the real binary. One test binary, so that it links once.

mod expect;
mod harness;
