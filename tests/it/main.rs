//! Drives the real binary. One test binary, so that it links once.

mod config_errors;
mod config_files;
mod expect;
mod harness;
mod lifecycle;
mod real_qemu;
mod usage;
