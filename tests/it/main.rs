//! Drives the real binary. One test binary, so that it links once.

mod audit;
mod check;
mod completions;
mod config_errors;
mod config_files;
mod config_search;
mod config_variants;
mod endings;
mod expect;
mod faults;
mod fleet;
mod guest;
mod harness;
mod lacking;
mod lifecycle;
mod man;
mod ports;
mod real_qemu;
mod restart;
mod run;
mod set;
mod shown;
mod surroundings;
mod tidy;
mod usage;
mod wait;
