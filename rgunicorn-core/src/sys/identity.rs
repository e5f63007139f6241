//! User and group.

use std::io;

use nix::unistd::{Gid, Uid, User, geteuid, getgid, getuid, initgroups, setgid, setgroups, setuid};

/// Becomes `user` and `group`, for good. With `all_groups`, the user's further groups too; without it, a process that
/// was root's keeps no other group than `group`.
///
/// # Errors
/// When this process may not.
pub fn assume(user: Option<u32>, group: Option<u32>, all_groups: bool) -> io::Result<()> {
    let user = user.map(Uid::from_raw).filter(|user| *user != getuid());
    let group = group.map(Gid::from_raw);
    if let Some(group) = group.filter(|group| user.is_some() || *group != getgid()) {
        let name = match user {
            Some(user) if all_groups => User::from_uid(user).ok().flatten().map(|entry| entry.name),
            _ => None,
        };
        match name.and_then(|name| std::ffi::CString::new(name).ok()) {
            Some(name) => initgroups(&name, group)?,
            None if geteuid().is_root() => setgroups(&[group])?,
            None => {}
        }
        setgid(group)?;
    }
    if let Some(user) = user {
        setuid(user)?;
    }
    Ok(())
}
