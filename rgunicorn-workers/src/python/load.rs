//! `APP_MODULE`: from text to an application.
//!
//! | form | what is called for a request |
//! | --- | --- |
//! | `module` | its `application` |
//! | `module:attr`, `module:attr.sub` | the attribute |
//! | `module:factory()`, `module:factory("arg", key=1)` | what the factory, called once with literals, returns |
//!
//! The work is done in Python (`load.py`), which has the parser and the importer.

use pyo3::prelude::*;
use pyo3::types::PyModule;
use rgunicorn_core::worker::BootError;
use thiserror::Error;

use super::failure;

/// Why an application could not be loaded. gunicorn tells these apart by exit status, and so do we.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoadError {
    /// Its module can't be imported, or its code raised: a traceback, or a sentence.
    #[error("{0}")]
    Import(String),
    /// The module is there, and no application in it by this name: a sentence.
    #[error("{0}")]
    Missing(String),
}

impl From<LoadError> for BootError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Import(text) => BootError::Boot(text),
            LoadError::Missing(text) => BootError::Load(text),
        }
    }
}

/// Imports the application that `text` names.
///
/// # Errors
/// Whatever the import, or the factory, raises, with its traceback.
pub fn load(py: Python<'_>, text: &str) -> Result<Py<PyAny>, LoadError> {
    let loaded = helper(py, include_str!("load.py"), "rgunicorn_load")
        .and_then(|helper| helper.getattr("load")?.call1((text,)))
        .and_then(|result| result.extract::<(Py<PyAny>, Option<String>, bool)>());
    understood(py, loaded)
}

fn understood(
    py: Python<'_>,
    loaded: PyResult<(Py<PyAny>, Option<String>, bool)>,
) -> Result<Py<PyAny>, LoadError> {
    failure::end_stray(py, loaded.as_ref().err());
    match loaded {
        Ok((application, None, _)) => Ok(application),
        Ok((_, Some(problem), true)) => Err(LoadError::Missing(problem)),
        Ok((_, Some(problem), false)) => Err(LoadError::Import(problem)),
        Err(error) => Err(LoadError::Import(failure::report(py, &error))),
    }
}

/// Loads the application that a PasteDeploy file describes; `uri` is its path, with `#name` for one of several.
///
/// # Errors
/// As for [`load`].
pub fn load_paste(py: Python<'_>, uri: &str, conf: &[String]) -> Result<Py<PyAny>, LoadError> {
    let loaded = helper(py, include_str!("load.py"), "rgunicorn_load")
        .and_then(|helper| helper.getattr("load_paste")?.call1((uri, conf)))
        .and_then(|result| result.extract::<(Py<PyAny>, Option<String>, bool)>());
    understood(py, loaded)
}

/// Executes a Python source file of ours as a module that stays out of `sys.modules`.
pub(crate) fn helper<'py>(py: Python<'py>, source: &str, name: &str) -> PyResult<Bound<'py, PyModule>> {
    let module = PyModule::new(py, name)?;
    let builtins = py.import("builtins")?;
    let code = builtins.call_method1("compile", (source, "<rgunicorn>", "exec"))?;
    builtins.call_method1("exec", (code, module.dict()))?;
    Ok(module)
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::*;
    use crate::python::testing::attached;

    /// Makes a module `name` with this source.
    fn module(py: Python<'_>, name: &str, source: &str) {
        let module =
            PyModule::from_code(py, &CString::new(source).unwrap(), c"test.py", &CString::new(name).unwrap());
        py.import("sys").unwrap().getattr("modules").unwrap().set_item(name, module.unwrap()).unwrap();
    }

    fn error(py: Python<'_>, text: &str) -> String {
        load(py, text).unwrap_err().to_string()
    }

    #[test]
    fn every_form_finds_its_application() {
        attached(|py| {
            module(
                py,
                "forms",
                "class Site:\n    def sub(self): return 'sub'\n\
                 site = Site()\n\
                 def application(): return 'application'\n\
                 def make(*args, **kwargs): return lambda: (args, kwargs)\n",
            );
            let call = |text: &str| load(py, text).unwrap().call0(py).unwrap().to_string();
            assert_eq!(call("forms"), "application");
            assert_eq!(call("forms:application"), "application");
            assert_eq!(call("forms:site.sub"), "sub");
            assert_eq!(call("forms:make()"), "((), {})");
            assert_eq!(call("forms:make('arg', -1, key=[1, None])"), "(('arg', -1), {'key': [1, None]})");
        });
    }

    #[test]
    fn what_is_wrong_is_said_in_a_sentence() {
        attached(|py| {
            module(py, "wrong", "nothing = None\nnumber = 7\ndef make(one): return one\n");
            assert_eq!(error(py, "wrong"), "'wrong' has no attribute 'application', which 'wrong' asks for");
            assert_eq!(error(py, "wrong:a.b"), "'wrong' has no attribute 'a', which 'wrong:a.b' asks for");
            assert_eq!(error(py, "wrong:nothing"), "'wrong:nothing' is None, where an application is needed");
            assert!(error(py, "wrong:number").contains("of type 'int'"));
            assert!(error(py, "wrong:make()").contains("missing 1 required positional argument: 'one'"));
            assert!(error(py, "wrong:make(nothing)").contains("must be literals"));
            for text in ["wrong:", "wrong:1", "wrong:a b", "wrong:make()()", "wrong:make(**{})", "wrong:a[0]"]
            {
                assert!(error(py, text).contains("names no application"), "{text}: {}", error(py, text));
            }
        });
    }

    #[test]
    fn a_file_name_is_answered_with_the_module_name() {
        attached(|py| {
            let directory = std::env::temp_dir().join(format!("rgunicorn-load-{}", std::process::id()));
            std::fs::create_dir_all(&directory).unwrap();
            let file = directory.join("run.py");
            std::fs::write(&file, "").unwrap();
            let text = error(py, &format!("{}:app", file.display()));
            assert!(text.contains("is a file") && text.ends_with(".run:app'?"), "{text}");
            std::fs::remove_dir_all(directory).unwrap();
        });
    }

    #[test]
    fn an_error_inside_the_application_comes_with_its_traceback_and_without_ours() {
        attached(|py| {
            let text = error(py, "no_such_module:app");
            assert_eq!(text, "ModuleNotFoundError: No module named 'no_such_module'");
            module(py, "broken", "def make():\n    raise TypeError('inside')\n");
            let text = error(py, "broken:make()");
            assert!(text.contains("line 2, in make") && text.ends_with("TypeError: inside"), "{text}");
            assert!(!text.contains("<rgunicorn>"), "{text}");
        });
    }

    #[test]
    fn an_exit_while_loading_is_told_as_such() {
        attached(|py| {
            module(py, "leaver", "import sys\ndef make(): sys.exit(3)\n");
            assert!(error(py, "leaver:make()").starts_with("'leaver:make()' called sys.exit(3)"));
        });
    }
}
