//! Makes the unit tests find the libpython that they were linked against.

fn main() {
    #[cfg(feature = "python")]
    pyo3_build_config::add_libpython_rpath_link_args();
}
