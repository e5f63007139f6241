//! The macro behind `settings`: from one entry a setting, the struct and the table of settings.
//!
//! Whatever handles settings without caring which (the command line, files, printing, the reference page) goes through
//! [`SETTINGS`](super::SETTINGS); whatever cares which reads a field of [`Config`].

use super::kind::Takes;
use super::settings::Config;
use super::value::Value;

/// The section of the settings that gunicorn doesn't have.
const OURS: &str = "rgunicorn";

/// What setting a setting does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// What its help says.
    Implemented,
    /// Nothing yet: any value but the default is an error at start-up.
    Planned,
    /// Nothing, and rightly so: every valid value is taken, for this reason.
    Accepted(&'static str),
}

/// One setting, as declared.
#[derive(Debug)]
pub struct Setting {
    /// Its name, in configuration files and as a field of [`Config`].
    pub name: &'static str,
    /// The section of the reference it stands in.
    pub section: &'static str,
    /// Its flags, short ones with their dash and long ones with both.
    pub flags: &'static [&'static str],
    /// What its flag is followed by.
    pub takes: Takes,
    /// What values it takes, in words.
    pub expects: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// Whether it does that.
    pub status: Status,
    pub(super) metavar: &'static str,
    pub(super) default: fn() -> Value,
    pub(super) get: fn(&Config) -> Value,
    pub(super) set: fn(&mut Config, &Value) -> Result<(), String>,
}

impl Setting {
    /// Its value if nobody sets it.
    pub fn default(&self) -> Value {
        (self.default)()
    }

    /// Its value in `config`.
    pub fn get(&self, config: &Config) -> Value {
        (self.get)(config)
    }

    /// Reads `value` from any source into `config`.
    ///
    /// # Errors
    /// A sentence with the value and what would be right.
    pub fn set(&self, config: &mut Config, value: &Value) -> Result<(), String> {
        (self.set)(config, value)
    }

    /// Whether gunicorn doesn't have it.
    pub fn is_ours(&self) -> bool {
        self.section == OURS
    }

    /// Whether it is a function of a Python configuration file.
    pub fn is_hook(&self) -> bool {
        self.section.ends_with("Hooks")
    }

    /// What its flag's value is called in the help.
    pub fn metavar(&self) -> String {
        if self.metavar.is_empty() { self.name.to_uppercase() } else { self.metavar.to_string() }
    }

    /// Its flags in one word, as errors name it: `-w/--workers`; without a flag, its name.
    pub fn flag(&self) -> String {
        if self.flags.is_empty() { self.name.to_string() } else { self.flags.join("/") }
    }
}

/// Declares the settings. An entry reads: documentation (its help), name, Rust type, kind, default, flags, name of the
/// flag's value if there is one, status.
macro_rules! settings {
    ($(
        $section:literal {$(
            $(#[doc = $help:literal])+
            $name:ident: $type:ty as $kind:ty = $default:expr, [$($flag:literal),*] $($metavar:ident)?,
            $status:ident $(($reason:literal))?;
        )*}
    )*) => {
        /// The settings, resolved: one field a setting.
        ///
        /// [`Config::default`] is what an empty command line gives, for hosts that have none.
        #[derive(Debug, Clone)]
        pub struct Config {$($(
            $(#[doc = $help])+
            pub $name: $type,
        )*)*}

        impl Config {
            /// The defaults as declared, paths still relative.
            pub(super) fn declared() -> Self {
                Config {$($($name: $default,)*)*}
            }
        }

        /// Every setting, in the order of the reference.
        pub static SETTINGS: &[Setting] = &[$($(
            Setting {
                name: stringify!($name),
                section: $section,
                flags: &[$($flag),*],
                metavar: concat!("" $(, stringify!($metavar))?),
                takes: <$kind as Kind<$type>>::TAKES,
                expects: <$kind as Kind<$type>>::EXPECTS,
                help: concat!($($help),+),
                status: Status::$status $(($reason))?,
                default: || {
                    let default: $type = $default;
                    <$kind as Kind<$type>>::show(&default)
                },
                get: |config| <$kind as Kind<$type>>::show(&config.$name),
                set: |config, value| match <$kind as Kind<$type>>::read(value) {
                    Err(_) if matches!(value, Value::None) && <$kind as Kind<$type>>::NONE_IS_UNSET => Ok(()),
                    Ok(read) => {
                        config.$name = read;
                        Ok(())
                    }
                    Err(mistake) => Err(mistake.explain(value, <$kind as Kind<$type>>::EXPECTS)),
                },
            },
        )*)*];
    };
}

pub(super) use settings;
