//! One virtual machine: its files ([`paths`]), the record of its start ([`instance`]), its process
//! ([`process`]) and one look at both ([`look`]); how to query it ([`qmp`], [`session`]), start it
//! ([`launch`]) and stop it ([`shutdown`]); its state ([`state`]) and the
//! resources that it uses ([`stats`]).

pub(crate) mod argv;
pub(crate) mod boots;
pub(crate) mod causes;
pub(crate) mod clean;
pub(crate) mod console;
pub(crate) mod end;
pub(crate) mod ending;
pub(crate) mod events;
pub(crate) mod everywhere;
pub(crate) mod follow;
pub(crate) mod format;
pub(crate) mod forward;
pub(crate) mod helper;
pub(crate) mod helper_record;
pub(crate) mod helpers;
pub(crate) mod instance;
pub(crate) mod keys;
pub(crate) mod last_words;
pub(crate) mod launch;
pub(crate) mod lock;
pub(crate) mod look;
pub(crate) mod machine;
pub(crate) mod named;
pub(crate) mod options;
pub(crate) mod output;
pub(crate) mod paths;
pub(crate) mod port;
mod probe;
pub(crate) mod process;
pub(crate) mod qcow2;
pub(crate) mod qmp;
pub(crate) mod ready;
pub(crate) mod record;
pub(crate) mod refusal;
pub(crate) mod schema;
pub(crate) mod search;
pub(crate) mod session;
pub(crate) mod shutdown;
pub(crate) mod snapshot;
pub(crate) mod sockets;
pub(crate) mod sought;
pub(crate) mod ssh_server;
pub(crate) mod state;
pub(crate) mod stats;
#[cfg(test)]
mod tests;
pub(crate) mod usernet;
pub(crate) mod users;
pub(crate) mod watch;

pub(crate) use crate::wait::{self, Deadline};
pub(crate) use instance::Instance;
pub(crate) use look::Look;
pub(crate) use paths::Paths;
pub(crate) use process::Process;
pub(crate) use session::Session;
pub(crate) use state::State;
