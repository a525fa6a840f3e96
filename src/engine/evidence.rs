//! What a finding rests on, and so how far a look at a running tree can be trusted with it.
//!
//! CRIU judges a tree that stands still; before it is frozen, each thing is seen at a moment of its own. What rests on one
//! observation of one object is as good then as later. What joins two observations may be a coincidence of two moments: the
//! file was closed before its path was looked up, the other end of a socket was on its way from one process to the next. The
//! engine ([`crate::engine::confirm`]) refuses early only what was seen in one piece, by the kind that the rule declares here; the
//! frozen look, where CRIU has one, decides the rest.

/// The kinds of evidence, and what makes each certain while the tree runs. Whatever the kind, two looks have to agree on
/// all facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// One observation of one object: a descriptor, a mapping, a task, a socket as the kernel lists it (whose inode number is
    /// not used again soon), an interface, or of CRIU itself. Asked again between the looks, it was always the same.
    Object,
    /// Several observations of one process, like its limit and the number of its descriptors: it did not run in between.
    Process,
    /// An open file and where its path leads: the descriptor is the same before and after the path was looked up.
    Path,
    /// Mounts as they lie upon one another, or something that is on none of them: the tables were the same in both looks.
    Mounts,
    /// A socket whose peer no descriptor of the tree refers to: a process outside has it, and the tree has not changed.
    Peer,
    /// A process that is not in the tree: it was found, and is not below the root.
    Outsider,
    /// What holds of all the tree: that none of its tasks has something, how many have, which comes first. No task of it ran
    /// between the looks.
    Tree,
}

impl Evidence {
    /// Whether every descriptor and task of the tree counts: with a list that is not complete nothing is known.
    pub(crate) fn needs_whole_tree(self) -> bool {
        matches!(self, Evidence::Peer | Evidence::Outsider | Evidence::Tree)
    }
}
