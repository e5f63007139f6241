//! Opening files for appending that another user is to have as well: the logs, which root opens for its workers.
//!
//! What root opens by its name may be what somebody else has put there: a link to a file of root's, say. So it is looked
//! first whether another user could have had a hand in the path, whoever it is: by a directory, or a link, that is his. If not,
//! it is root's, or the operator's, and opened like any file, whatever links it has in it. If so, it is opened with no other
//! rights than that user has, who gains nothing by what root does then. Where those don't suffice, and what is left of the
//! path has no link in it, a plain file may still be opened, or made. And only a file that was made here is given away.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, User, getegid, geteuid, getgrouplist, getgroups};

/// The mode that files are made with, before the process's mask.
const NEW: u32 = 0o666;
/// How often it is looked again where something changes.
const ATTEMPTS: usize = 5;
/// A user, and a group, that nothing belongs to, as far as others are right.
const NOBODY: u32 = 65534;
/// How many links a path may have in it, as for the kernel.
const LINKS: usize = 40;

/// Whom files are for: the user and group that workers become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Party {
    /// The user; none if workers stay who they are.
    pub user: Option<u32>,
    /// The group; none if workers keep theirs.
    pub group: Option<u32>,
    /// Whether they have the user's further groups as well.
    pub all_groups: bool,
}

/// Opens a file for appending; makes it, and gives it to `party`, if it isn't there.
///
/// # Errors
/// Those of `open(2)`; where `party` has had a hand in the path, that it may not do what is asked for, or that something is
/// there which could hold up who writes to it.
pub fn append(path: &Path, party: Party) -> io::Result<File> {
    if !geteuid().is_root() {
        return append_plainly(path, party);
    }
    let workers = Rights::of_workers(party);
    let mut attempts = 0;
    loop {
        let opened = match way(path, workers.as_ref())? {
            Way::New(resolved) => create(&resolved, party),
            Way::There(resolved) => {
                OpenOptions::new().append(true).custom_flags(libc::O_NOFOLLOW).open(&resolved)
            }
            Way::Kernels(resolved) => OpenOptions::new().append(true).open(&resolved),
            Way::Anothers { user, safe, rest } => {
                let rights = workers.clone().filter(|rights| rights.user == user);
                append_as_they_may(path, &rights.unwrap_or_else(|| Rights::of(user)), party).or_else(
                    |error| match error.kind() {
                        ErrorKind::PermissionDenied => {
                            append_beneath(&safe, &rest, party).map_err(|_| refusal(user, &safe, &error))
                        }
                        _ => Err(error),
                    },
                )
            }
        };
        attempts += 1;
        match &opened {
            // Something has come there meanwhile, or gone.
            Err(error) if attempts < ATTEMPTS && is_change(error) => {}
            _ => return opened,
        }
    }
}

fn is_change(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound)
        || error.raw_os_error() == Some(libc::ELOOP)
}

/// As anybody would who has nothing to fear.
fn append_plainly(path: &Path, party: Party) -> io::Result<File> {
    match OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        opened => return opened,
    }
    create(path, party).or_else(|error| match error.kind() {
        // A link that leads nowhere: what it names is made.
        ErrorKind::AlreadyExists => OpenOptions::new().append(true).create(true).open(path),
        _ => Err(error),
    })
}

/// A new file, in the place of nothing.
fn create(path: &Path, party: Party) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create_new(true).mode(NEW).open(path)?;
    give(&file, party);
    Ok(file)
}

/// With the rights of those who may have put it there.
fn append_as_they_may(path: &Path, rights: &Rights, party: Party) -> io::Result<File> {
    let mut how = OpenOptions::new();
    how.append(true).mode(NEW).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let (file, made) = rights.during(|| match how.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => match how.create_new(true).open(path) {
            // A link that leads nowhere.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                how.create_new(false).create(true).open(path).map(|file| (file, false))
            }
            made => made.map(|file| (file, true)),
        },
        opened => opened.map(|file| (file, false)),
    })?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::other(
            "it is a FIFO in a place of another user's, who could stop the server with it",
        ));
    }
    if made {
        let user = party.user.or(Some(0));
        give(&file, Party { user, group: party.group.or(Some(getegid().as_raw())), ..party });
    }
    Ok(file)
}

fn refusal(user: u32, safe: &Path, error: &io::Error) -> io::Error {
    let why = format!("{error}, to user {user}, who has had a hand in what is in {}", safe.display());
    io::Error::new(error.kind(), why)
}

/// A plain file of this one name, with no link on the way to it.
fn append_beneath(safe: &Path, rest: &Path, party: Party) -> io::Result<File> {
    let directory =
        OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(safe)?;
    let open = |further: OFlag| -> io::Result<File> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let how = OpenHow::new().flags(flags | further).resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        );
        let how = if further.is_empty() { how } else { how.mode(Mode::from_bits_truncate(NEW)) };
        Ok(openat2(&directory, rest, how)?.into())
    };
    match open(OFlag::empty()) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let file = open(OFlag::O_CREAT | OFlag::O_EXCL)?;
            give(&file, party);
            Ok(file)
        }
        Ok(file) => {
            // One with a second name may be anybody's.
            let metadata = file.metadata()?;
            let plain = metadata.is_file() && metadata.nlink() == 1;
            plain.then_some(file).ok_or_else(|| ErrorKind::PermissionDenied.into())
        }
        Err(error) => Err(error),
    }
}

/// Gives a file that was made here to those it is for.
fn give(file: &File, party: Party) {
    if party.user.is_some() || party.group.is_some() {
        // Only root can; and whoever can't is the user already.
        let _ = fchown(file, party.user, party.group);
    }
}

/// What a user may do.
#[derive(Clone)]
struct Rights {
    user: u32,
    group: u32,
    groups: Vec<Gid>,
}

/// Who decides what is at the end of a path.
enum Way {
    /// Root; nothing is there yet. This is the path without links in it.
    New(PathBuf),
    /// Root; there is something. This is the path without links in it.
    There(PathBuf),
    /// The kernel, which alone can follow the links of `/proc`.
    Kernels(PathBuf),
    /// This user, who may write to the directory `safe`, or has made a link in it. What is left of the path from there.
    Anothers { user: u32, safe: PathBuf, rest: PathBuf },
}

/// Goes along a path as the kernel would, as far as no user has had a hand in it; `workers` is whom files are for.
fn way(path: &Path, workers: Option<&Rights>) -> io::Result<Way> {
    const STICKY: u32 = 0o1000;
    let mut done = PathBuf::from("/");
    // What is left, the next name last.
    let mut rest = names(path);
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == ".." {
            done.pop();
            continue;
        }
        let here = done.join(&name);
        let left = || rest.iter().rev().fold(here.clone(), |path, name| path.join(name));
        let anothers = |user| Way::Anothers {
            user,
            safe: done.clone(),
            rest: rest.iter().rev().fold(PathBuf::from(&name), |path, name| path.join(name)),
        };
        // Where it may have been anybody, it was he who may least.
        let anybody = workers.map_or(NOBODY, |workers| workers.user);
        let directory = fs::symlink_metadata(&done)?;
        let theirs = workers.filter(|workers| workers.may_write(&directory));
        let everybodys = directory.mode() & 0o002 != 0;
        let sticky = directory.mode() & STICKY != 0;
        // In a sticky directory everybody may do what he likes with what is his, its owner with everything.
        match theirs {
            Some(workers) if !sticky || directory.uid() == workers.user => return Ok(anothers(workers.user)),
            _ if directory.uid() != 0 => return Ok(anothers(directory.uid())),
            _ if everybodys && !sticky => return Ok(anothers(anybody)),
            _ => {}
        }
        let entry = match fs::symlink_metadata(&here) {
            Ok(entry) => entry,
            Err(error) if error.kind() == ErrorKind::NotFound && rest.is_empty() => {
                return Ok(Way::New(here));
            }
            Err(error) => return Err(error),
        };
        let shared = everybodys || theirs.is_some();
        if shared && !entry.is_dir() && entry.nlink() > 1 {
            return Ok(anothers(anybody));
        }
        if entry.uid() != 0 && (entry.is_symlink() || (shared && !entry.is_dir())) {
            return Ok(anothers(entry.uid()));
        }
        if entry.is_symlink() {
            if is_proc(&done) {
                // Links that only the kernel can follow, and only root makes.
                return Ok(Way::Kernels(left()));
            }
            links += 1;
            if links > LINKS {
                return Err(Errno::ELOOP.into());
            }
            let target = fs::read_link(&here)?;
            if target.is_absolute() {
                done = "/".into();
            }
            rest.extend(names(&target));
        } else if rest.is_empty() || !entry.is_dir() {
            return Ok(Way::There(left()));
        } else {
            done = here;
        }
    }
    Ok(Way::There(done))
}

impl Rights {
    /// Those of the party; none if it is root.
    fn of_workers(party: Party) -> Option<Rights> {
        let user = party.user.filter(|user| *user != 0)?;
        let all = |group: Gid| -> Option<Vec<Gid>> {
            let entry = User::from_uid(Uid::from_raw(user)).ok()??;
            getgrouplist(&CString::new(entry.name).ok()?, group).ok()
        };
        Some(match party.group.map(Gid::from_raw) {
            Some(group) => {
                let further = if party.all_groups { all(group) } else { None };
                Rights { user, group: group.as_raw(), groups: further.unwrap_or_else(|| vec![group]) }
            }
            // As `identity::assume` leaves them.
            None => Rights { user, group: getegid().as_raw(), groups: getgroups().unwrap_or_default() },
        })
    }

    /// Those of any other user, without a group: whose groups are which may take a network to know.
    fn of(user: u32) -> Rights {
        Rights { user, group: NOBODY, groups: Vec::new() }
    }

    fn may_write(&self, directory: &fs::Metadata) -> bool {
        let group = Gid::from_raw(directory.gid());
        let in_group = directory.gid() == self.group || self.groups.contains(&group);
        directory.uid() == self.user
            || directory.mode() & 0o002 != 0
            || (in_group && directory.mode() & 0o020 != 0)
    }

    /// Runs `work` with no other rights to files than these.
    fn during<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let before = Before::note()?;
        set_groups(&self.groups)?;
        set_file_system_user(self.user, self.group);
        let result = match file_system_user() == self.user {
            true => work(),
            false => Err(ErrorKind::PermissionDenied.into()),
        };
        drop(before);
        result
    }
}

/// The names of a path, the last first.
fn names(path: &Path) -> Vec<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        _ => None,
    };
    path.components().rev().filter_map(name).collect()
}

fn is_proc(directory: &Path) -> bool {
    nix::sys::statfs::statfs(directory)
        .is_ok_and(|found| found.filesystem_type() == nix::sys::statfs::PROC_SUPER_MAGIC)
}

/// What this thread was, and is again when this is dropped. The C library would change all threads of the process.
struct Before {
    groups: Vec<Gid>,
    group: u32,
    /// These two the kernel takes away with a change of rights.
    dumpable: libc::c_int,
    parent_death: libc::c_int,
}

impl Before {
    fn note() -> io::Result<Before> {
        let mut parent_death: libc::c_int = 0;
        // SAFETY: the second writes an int to a place of that type; the first touches no memory.
        let dumpable = unsafe {
            libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut parent_death);
            libc::prctl(libc::PR_GET_DUMPABLE)
        };
        Ok(Before { groups: getgroups()?, group: getegid().as_raw(), dumpable, parent_death })
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        set_file_system_user(0, self.group);
        // It was allowed to take them away.
        let _ = set_groups(&self.groups);
        // SAFETY: touches no memory.
        unsafe {
            libc::prctl(libc::PR_SET_DUMPABLE, self.dumpable as libc::c_ulong);
            libc::prctl(libc::PR_SET_PDEATHSIG, self.parent_death as libc::c_ulong);
        }
    }
}

fn set_groups(groups: &[Gid]) -> io::Result<()> {
    let groups: Vec<libc::gid_t> = groups.iter().map(|group| group.as_raw()).collect();
    // SAFETY: so many numbers of that type are there to be read.
    Errno::result(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    Ok(())
}

fn set_file_system_user(user: u32, group: u32) {
    // SAFETY: touches no memory. What has come of it is asked for.
    unsafe {
        libc::setfsgid(group);
        libc::setfsuid(user);
    }
}

fn file_system_user() -> u32 {
    // SAFETY: changes nothing: there is no such user.
    unsafe { libc::setfsuid(u32::MAX) as u32 }
}

/// Gives a socket's file, which this process has just made, to `party`: the file itself, and not what is at its place by now.
///
/// # Errors
/// When something else is there, or this process may not.
pub fn give_socket(path: &Path, party: Party) -> io::Result<()> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let found = file.metadata()?;
    if !found.file_type().is_socket() || found.uid() != geteuid().as_raw() || found.nlink() != 1 {
        return Err(io::Error::other("something else has taken the socket's place"));
    }
    let (user, group) = (party.user.map(Uid::from_raw), party.group.map(Gid::from_raw));
    nix::unistd::fchownat(&file, "", user, group, nix::fcntl::AtFlags::AT_EMPTY_PATH)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use nix::unistd::mkfifo;

    use super::*;

    const THEY: u32 = 65534;
    const PARTY: Party = Party { user: Some(THEY), group: Some(THEY), all_groups: false };

    /// A directory that everybody may enter, with one of theirs and a file that is root's alone; none without root.
    fn site() -> Option<(tempfile::TempDir, PathBuf, PathBuf)> {
        if !geteuid().is_root() {
            eprintln!("only root has something to give away: not tested");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        mode(directory.path(), 0o755);
        let (theirs, secret) = (directory.path().join("theirs"), directory.path().join("secret"));
        fs::create_dir(&theirs).unwrap();
        chown(&theirs, Some(THEY), Some(THEY)).unwrap();
        fs::write(&secret, "secret").unwrap();
        mode(&secret, 0o600);
        Some((directory, theirs, secret))
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn owner(path: &Path) -> (u32, u32) {
        let found = fs::metadata(path).unwrap();
        (found.uid(), found.gid())
    }

    /// A link that they have made.
    fn their_link(target: &Path, link: &Path) {
        symlink(target, link).unwrap();
        std::os::unix::fs::lchown(link, Some(THEY), Some(THEY)).unwrap();
    }

    #[track_caller]
    fn refused(path: &Path, secret: &Path) {
        let error = append(path, PARTY).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert_eq!((owner(secret), fs::read(secret).unwrap().as_slice()), ((0, 0), &b"secret"[..]));
    }

    #[test]
    fn what_is_made_is_given_away_and_what_is_there_is_not() {
        let Some((directory, theirs, _)) = site() else { return };
        for place in [directory.path(), &theirs] {
            let (new, old) = (place.join("new"), place.join("old"));
            append(&new, PARTY).unwrap().write_all(b"line\n").unwrap();
            append(&new, PARTY).unwrap().write_all(b"line\n").unwrap();
            assert_eq!((owner(&new), fs::read(&new).unwrap().len()), ((THEY, THEY), 10));
            fs::write(&old, "root's\n").unwrap();
            append(&old, PARTY).unwrap().write_all(b"line\n").unwrap();
            assert_eq!((owner(&old), fs::read(&old).unwrap().len()), ((0, 0), 12));
        }
        // This thread is what it was.
        assert_eq!(file_system_user(), 0);
        fs::write(directory.path().join("more"), "").unwrap();
        assert_eq!(owner(&directory.path().join("more")), (0, 0));
    }

    #[test]
    fn their_links_lead_no_further_than_they_may_go_themselves() {
        let Some((directory, theirs, secret)) = site() else { return };
        let link = |name: &str, target: &Path| {
            let link = theirs.join(name);
            their_link(target, &link);
            link
        };
        refused(&link("file", &secret), &secret);
        refused(&link("directory", directory.path()).join("secret"), &secret);
        refused(&link("new", &directory.path().join("new")), &secret);
        assert!(!directory.path().join("new").exists());
        refused(&link("twice", &link("once", &secret)), &secret);
        fs::hard_link(&secret, theirs.join("hard")).unwrap();
        refused(&theirs.join("hard"), &secret);
        // Where they had to be given the link, in a directory that isn't theirs, it is theirs all the same.
        their_link(&secret, &directory.path().join("link"));
        refused(&directory.path().join("link"), &secret);
        append(&link("fine", &theirs.join("their own")), PARTY).unwrap();
        assert_eq!(owner(&theirs.join("their own")), (THEY, THEY));
    }

    #[test]
    fn the_operators_links_lead_anywhere() {
        let Some((directory, theirs, _)) = site() else { return };
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        symlink("target", &link).unwrap();
        append(&link, PARTY).unwrap();
        assert_eq!(owner(&target), (THEY, THEY));
        symlink(&theirs, directory.path().join("further")).unwrap();
        append(&directory.path().join("further/../further/log"), PARTY).unwrap();
        assert_eq!(owner(&theirs.join("log")), (THEY, THEY));
        // As /dev/stdout does.
        let open = File::create(directory.path().join("open")).unwrap();
        let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
        symlink(name, directory.path().join("output")).unwrap();
        append(&directory.path().join("output"), PARTY).unwrap().write_all(b"line").unwrap();
        assert_eq!(fs::read(directory.path().join("open")).unwrap(), b"line");
        assert_eq!(owner(&directory.path().join("open")), (0, 0));
        append(Path::new("/dev/null"), PARTY).unwrap();
        assert_eq!(owner(Path::new("/dev/null")), (0, 0));
        let missing = append(&directory.path().join("no/such/log"), PARTY).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn in_a_sticky_directory_everybody_has_what_is_his() {
        let Some((directory, _, secret)) = site() else { return };
        let shared = directory.path().join("shared");
        fs::create_dir(&shared).unwrap();
        mode(&shared, 0o1777);
        append(&shared.join("log"), PARTY).unwrap();
        append(&shared.join("log"), PARTY).unwrap();
        assert_eq!(owner(&shared.join("log")), (THEY, THEY));
        their_link(&secret, &shared.join("link"));
        refused(&shared.join("link"), &secret);
        fs::hard_link(&secret, shared.join("hard")).unwrap();
        refused(&shared.join("hard"), &secret);
        fs::write(shared.join("root's"), "").unwrap();
        append(&shared.join("root's"), PARTY).unwrap();
        assert_eq!(owner(&shared.join("root's")), (0, 0));
    }

    #[test]
    fn a_directory_that_they_can_not_reach_is_no_hindrance() {
        let Some((directory, _, _)) = site() else { return };
        let (closed, theirs) = (directory.path().join("closed"), directory.path().join("closed/theirs"));
        fs::create_dir_all(&theirs).unwrap();
        chown(&theirs, Some(THEY), Some(THEY)).unwrap();
        mode(&closed, 0o700);
        append(&theirs.join("log"), PARTY).unwrap();
        append(&theirs.join("log"), PARTY).unwrap();
        assert_eq!(owner(&theirs.join("log")), (THEY, THEY));
    }

    #[test]
    fn nothing_of_theirs_holds_us_up() {
        let Some((_directory, theirs, _)) = site() else { return };
        let pipe = theirs.join("pipe");
        mkfifo(&pipe, Mode::from_bits_truncate(0o666)).unwrap();
        chown(&pipe, Some(THEY), Some(THEY)).unwrap();
        append(&pipe, PARTY).unwrap_err();
        let _reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe).unwrap();
        let error = append(&pipe, PARTY).unwrap_err();
        assert!(error.to_string().contains("a FIFO"), "{error}");
    }

    #[test]
    fn what_belongs_to_a_third_user_is_opened_with_his_rights() {
        const THIRD: u32 = 12345;
        let Some((directory, _, secret)) = site() else { return };
        let his = directory.path().join("his");
        fs::create_dir_all(his.join("inner")).unwrap();
        for directory in [&his, &his.join("inner")] {
            chown(directory, Some(THIRD), Some(THIRD)).unwrap();
        }
        for (party, owner_of_new) in [(PARTY, (THEY, THEY)), (Party::default(), (0, 0))] {
            let log = his.join(format!("log{}", owner_of_new.0));
            append(&log, party).unwrap();
            append(&log, party).unwrap();
            assert_eq!(owner(&log), owner_of_new);
            let link = his.join(format!("link{}", owner_of_new.0));
            symlink(&secret, &link).unwrap();
            std::os::unix::fs::lchown(&link, Some(THIRD), Some(THIRD)).unwrap();
            let error = append(&link, party).unwrap_err();
            assert!(error.to_string().contains("to user 12345"), "{error}");
            assert_eq!((owner(&secret), fs::read(&secret).unwrap().len()), ((0, 0), 6));
            // A release of his, say, and what is shared by all of them.
            let inner = his.join(format!("current{}", owner_of_new.0));
            symlink("inner", &inner).unwrap();
            append(&inner.join(format!("log{}", owner_of_new.0)), party).unwrap();
            assert_eq!(owner(&his.join(format!("inner/log{}", owner_of_new.0))), owner_of_new);
        }
    }

    #[test]
    fn without_another_user_every_link_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        symlink("target", directory.path().join("link")).unwrap();
        append(&directory.path().join("link"), Party::default()).unwrap().write_all(b"1").unwrap();
        append(&directory.path().join("link"), Party::default()).unwrap().write_all(b"2").unwrap();
        assert_eq!(fs::read(directory.path().join("target")).unwrap(), b"12");
    }

    #[test]
    fn a_socket_is_given_away_and_nothing_in_its_place() {
        let Some((directory, theirs, secret)) = site() else { return };
        let path = theirs.join("socket");
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        give_socket(&path, PARTY).unwrap();
        assert_eq!(owner(&path), (THEY, THEY));
        for place in ["link", "hard"] {
            let place = directory.path().join(place);
            let _ = if place.ends_with("link") {
                symlink(&secret, &place)
            } else {
                fs::hard_link(&secret, &place)
            };
            give_socket(&place, PARTY).unwrap_err();
        }
        assert_eq!(owner(&secret), (0, 0));
    }
}
