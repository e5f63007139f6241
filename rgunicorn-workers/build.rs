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
}
