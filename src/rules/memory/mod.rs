//! Mappings.

pub mod address_space;
pub mod aio;
pub mod hugetlb;
pub mod leftover;
pub mod mapping;
pub mod placement;
