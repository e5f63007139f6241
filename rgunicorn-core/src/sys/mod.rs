//! The one place where the operating system shows through, and the one place of this crate with `unsafe` in it.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`signals`] | signals as bytes in a pipe, and the handlers that put them there |
//! | [`faults`] | SIGSEGV and SIGBUS |
//! | [`bell`] | what child processes ring to wake their parent |
//! | [`fork`] | making, awaiting and leaving processes |
//! | [`forks`] | forks that an application makes |
//! | [`opening`] | opening files that another user is to have as well |
//! | [`orphans`] | the end of a process whose parent has died |
//! | [`memory`] | memory that processes share |
//! | [`title`] | the process title, as `ps` shows it |
//! | [`identity`] | user and group |
//! | [`environment`] | environment variables |
//! | [`clock`] | the monotonic clock, and local time as the logs print it |
//! | [`files`] | opening and locking files; writing to, and replacing, open descriptors |
//! | [`net`] | accepting connections; receiving; descriptors that we were started with |
//! | [`processes`] | what `/proc` and the control groups say of processes |
//! | [`limits`] | resource limits |
//! | [`epoll`] | watching a listener that other processes watch as well |
//! | [`passing`] | passing descriptors from process to process |
//! | [`threads`] | whether this process's threads get on |
//!
//! Everything here is for Linux.

pub mod bell;
pub mod clock;
pub mod environment;
pub mod epoll;
pub mod faults;
pub mod files;
pub mod fork;
pub mod forks;
pub mod identity;
pub mod limits;
pub mod memory;
pub mod net;
pub mod opening;
pub mod orphans;
pub mod passing;
pub mod processes;
pub mod signals;
pub mod threads;
pub mod title;
