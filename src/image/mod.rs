//! The images that the configuration declares: what is there of them ([`inspection`]) and how they
//! are made and grown ([`build`]). A base may have to be fetched ([`fetch`]), is kept ([`keep`])
//! and is examined before it is used ([`base`]); a file system for cloud-init is beside the disk
//! ([`seed`]).
//!
//! A disk gets its name when everything that belongs to it is there, so a disk that exists is
//! complete. Only `reset` and `remove` of [`build`] lose what a VM wrote to it.

pub(crate) mod base;
pub(crate) mod bases;
pub(crate) mod build;
pub(crate) mod change;
pub(crate) mod context;
mod fat;
pub(crate) mod fetch;
pub(crate) mod inspection;
mod keep;
mod keys;
mod record;
pub(crate) mod seed;
