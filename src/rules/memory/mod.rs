//! Mappings.

pub(crate) mod address_space;
pub(crate) mod aio;
pub(crate) mod hugetlb;
pub(crate) mod leftover;
pub(crate) mod mapping;
pub(crate) mod placement;
pub(crate) mod rseq;
