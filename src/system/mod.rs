//! The trusted core: all that this program can do to a machine. Only the files here start or signal
//! a process, open a socket, or create, change or remove a file; a test holds that. They decide
//! nothing about VMs, guests or images: their callers say what they want.
//!
//! Read them in this order: [`programs`], [`run`], [`running`] and [`output`], by which every
//! program is run; [`inherited`], [`daemon`], [`guard`], [`tty`] and [`process`], which use them;
//! [`temporary`] and [`files`], then [`lock`], [`short_way`], [`user_files`] and [`arrivals`];
//! [`sockets`].

pub(crate) mod arrivals;
pub(crate) mod daemon;
pub(crate) mod files;
pub(crate) mod guard;
pub(crate) mod inherited;
pub(crate) mod lock;
pub(crate) mod output;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod run;
pub(crate) mod running;
pub(crate) mod short_way;
pub(crate) mod sockets;
pub(crate) mod temporary;
pub(crate) mod tty;
pub(crate) mod user_files;
