//! Makes the unit tests find the libpython that they were linked against, and tells the build scripts of programs where the
//! list of functions is that they must export for the worker class `coro`.

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rerun-if-changed=src/coro/interposed/exports.list");
    println!("cargo::metadata=EXPORTS={directory}/src/coro/interposed/exports.list");
    #[cfg(feature = "python")]
    pyo3_build_config::add_libpython_rpath_link_args();
    #[cfg(feature = "python")]
    pyo3_build_config::use_pyo3_cfgs();
    #[cfg(feature = "python")]
    refuse_free_threading();
}

/// A build against a CPython without a GIL would compile, and wait for itself under load: docs/performance.md says where.
#[cfg(feature = "python")]
fn refuse_free_threading() {
    let python = pyo3_build_config::get();
    let without_gil = |flag: &pyo3_build_config::BuildFlag| flag.to_string() == "Py_GIL_DISABLED";
    if python.build_flags().0.iter().any(without_gil) {
        let path = python.executable().unwrap_or("the CPython that was found");
        println!(
            "cargo::error={path} is a free-threaded build, which rgunicorn doesn't support yet: \
             set PYO3_PYTHON to a CPython with a GIL"
        );
    }
}
