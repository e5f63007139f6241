//! Values that are looked up in the system: users, groups, directories.

use std::path::PathBuf;

use nix::unistd::{Group, User};

use super::{Kind, Mistake, Value, as_path, as_text};

/// A user, by name or number; `None` is the current one.
#[derive(Debug)]
pub struct UserId;

/// A group, by name or number; `None` is the current one.
#[derive(Debug)]
pub struct GroupId;

/// A directory. Whether it exists is seen once it is known what it is relative to.
#[derive(Debug)]
pub struct Directory;

fn id(
    value: &Value,
    noun: &str,
    look_up: impl Fn(&str) -> nix::Result<Option<u32>>,
) -> Result<Option<u32>, Mistake> {
    let name = match value {
        Value::None => return Ok(None),
        Value::Int(number) => return u32::try_from(*number).map(Some).map_err(|_| Mistake::Unexpected),
        other => as_text(other)?,
    };
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
        return name.parse().map(Some).map_err(|_| Mistake::Unexpected);
    }
    match look_up(name) {
        Ok(Some(id)) => Ok(Some(id)),
        Ok(None) => {
            Err(format!("there is no {noun} {name:?} on this system; give a name it knows, or a number")
                .into())
        }
        Err(error) => Err(format!("the {noun} {name:?} can't be looked up ({error}); give a number").into()),
    }
}

fn show_id(value: &Option<u32>) -> Value {
    value.map_or(Value::None, |id| Value::Int(id.into()))
}

impl Kind<Option<u32>> for UserId {
    const EXPECTS: &'static str = "a user's name or number";

    fn read(value: &Value) -> Result<Option<u32>, Mistake> {
        id(value, "user", |name| Ok(User::from_name(name)?.map(|user| user.uid.as_raw())))
    }

    fn show(value: &Option<u32>) -> Value {
        show_id(value)
    }
}

impl Kind<Option<u32>> for GroupId {
    const EXPECTS: &'static str = "a group's name or number";

    fn read(value: &Value) -> Result<Option<u32>, Mistake> {
        id(value, "group", |name| Ok(Group::from_name(name)?.map(|group| group.gid.as_raw())))
    }

    fn show(value: &Option<u32>) -> Value {
        show_id(value)
    }
}

impl Kind<PathBuf> for Directory {
    const EXPECTS: &'static str = "a directory";

    fn read(value: &Value) -> Result<PathBuf, Mistake> {
        let path = as_path(value)?;
        Ok(if path.is_empty() { ".".into() } else { path.into() })
    }

    fn show(value: &PathBuf) -> Value {
        Value::path(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_by_name_and_number() {
        assert_eq!(UserId::read(&Value::text("root")), Ok(Some(0)));
        assert_eq!(GroupId::read(&Value::text("root")), Ok(Some(0)));
        assert_eq!(UserId::read(&Value::text("1000")), Ok(Some(1000)));
        assert_eq!(UserId::read(&Value::Int(33)), Ok(Some(33)));
        assert_eq!(UserId::read(&Value::None), Ok(None));
        assert_eq!(UserId::read(&Value::Int(-1)), Err(Mistake::Unexpected));
        let wrong = UserId::read(&Value::text("nobody-of-that-name")).unwrap_err();
        assert!(matches!(wrong, Mistake::Because(why) if why.contains("no user \"nobody-of-that-name\"")));
    }
}
