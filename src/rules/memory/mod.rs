//! Mappings.

pub mod aio;
pub mod hugetlb;
pub mod mapping;
pub mod placement;
