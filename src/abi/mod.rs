//! The door: what CRIU and C programs call. Every function here that C can call is behind [`fence`].

#[allow(non_camel_case_types)] // C's names, as they stand in the header.
pub mod c_api;
pub mod descriptor;
pub mod fence;
pub mod hooks;
pub mod shadow;
