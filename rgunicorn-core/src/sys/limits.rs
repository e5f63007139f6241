//! Resource limits.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit of open descriptors (`RLIMIT_NOFILE`) as far as this process may; answers what it was, and is then.
///
/// # Errors
/// None that can happen on Linux.
pub fn raise_descriptors() -> std::io::Result<(u64, u64)> {
    let (before, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if before < most {
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    }
    Ok((before, most))
}

/// How many descriptors this process may have open.
pub fn descriptors() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(limit, _)| limit)
}
