//! The words of the command line as a tree of processes.

use crate::ctx::Args;

pub enum Item {
    Kind { name: String, args: Args, word: String },
    Child(Node),
}

impl Item {
    pub fn is(&self, kind: &str) -> bool {
        matches!(self, Item::Kind { name, .. } if name == kind)
    }
}

/// One process of the tree.
pub struct Node {
    /// 0 is the root; children are numbered in the order of their opening brackets.
    pub index: usize,
    pub items: Vec<Item>,
}

pub fn parse(words: &[String]) -> Result<Node, String> {
    let mut open = vec![Node { index: 0, items: Vec::new() }];
    let mut count = 1;
    for w in words {
        match w.as_str() {
            "[" => {
                open.push(Node { index: count, items: Vec::new() });
                count += 1;
            }
            "]" => {
                let done = open.pop().ok_or("unbalanced ]")?;
                open.last_mut().ok_or("unbalanced ]")?.items.push(Item::Child(done));
            }
            w => {
                let (name, args) = w.split_once(':').unwrap_or((w, ""));
                let item = Item::Kind { name: name.into(), args: Args::parse(args), word: w.into() };
                open.last_mut().ok_or("unbalanced ]")?.items.push(item);
            }
        }
    }
    if open.len() != 1 {
        return Err("unbalanced [".into());
    }
    open.pop().ok_or_else(|| "nothing to make".into())
}
