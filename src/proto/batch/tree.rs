//! The tree of a batch: that of RFC 9162 §2.1.1.

use sha2::Digest as _;
use sha2::Sha256;

use super::BatchClaims;
use crate::proto::limits::BATCH_PATH_MAX;
use crate::proto::names::Tag;
use crate::proto::signing::Authentic;

/// A hash in a tree.
pub(super) type Node = [u8; NODE_LEN];

/// Bytes of a node.
pub(super) const NODE_LEN: usize = 32;

/// A root that was computed from a header and its path.
pub(crate) struct Root(Node);

impl Root {
    /// Whether it is this one.
    pub(super) fn is(&self, root: &Node) -> bool {
        self.0 == *root
    }

    /// The root above a header, which is leaf `index` of `size`, by the neighbours on its path.
    pub(super) fn from(header: &[u8], index: usize, size: usize, path: &[u8]) -> Self {
        let mut node = leaf(header);
        for step in Steps::new(index, size, path) {
            node = step.up(&node);
        }
        Self(node)
    }
}

/// What is known of a tree whose root was signed: nodes that led there before.
///
/// With a node its neighbour is known, and everything from there to the root. So a path that meets a
/// known node needs no more hashing: what is left of it has to be what is known.
pub(crate) struct KnownNodes {
    size: usize,
    /// Level by level, leaves first, the root last.
    nodes: Vec<Option<Node>>,
}

impl KnownNodes {
    /// The root of a batch, which was signed, and nothing below.
    pub(crate) fn of(batch: &Authentic<BatchClaims>) -> Self {
        let claims = batch.claims();
        let size = usize::from(claims.size);
        let (mut width, mut count) = (size, 1);
        while width > 1 {
            count += width;
            width = width.div_ceil(2);
        }
        let mut nodes = vec![None; count];
        nodes[count - 1] = Some(claims.root);
        Self { size, nodes }
    }

    /// The root above a header, which is leaf `index`; nothing when it does not stand there. What
    /// is found on the way is known from then on.
    pub(super) fn root_from(&mut self, header: &[u8], index: usize, path: &[u8]) -> Option<Root> {
        let mut node = leaf(header);
        let mut found = [([0; NODE_LEN], 0); BATCH_PATH_MAX * 2 + 2];
        let mut count = 0;
        let mut steps = Steps::new(index, self.size, path);
        let mut note = |at, node| {
            found[count] = (node, at);
            count += 1;
        };
        loop {
            let at = steps.at;
            if let Some(known) = self.nodes.get(at).copied().flatten() {
                if known != node {
                    return None;
                }
                break;
            }
            note(at, node);
            let step = steps.next()?;
            if let Some((neighbour, beside)) = step.neighbour {
                note(beside, neighbour);
            }
            node = step.up(&node);
        }
        // The rest of the path, of which everything is known.
        for step in steps {
            if let Some((neighbour, at)) = step.neighbour
                && self.nodes[at] != Some(neighbour)
            {
                return None;
            }
        }
        for (node, at) in &found[..count] {
            self.nodes[*at] = Some(*node);
        }
        self.nodes.last().copied().flatten().map(Root)
    }
}

/// The way from a leaf to the root.
struct Steps<'a> {
    index: usize,
    size: usize,
    /// Where the node stands among all, level by level.
    at: usize,
    path: &'a [u8],
}

/// One level up.
struct Step {
    is_left: bool,
    /// The node beside, and where it stands. Without one a node moves up as it is.
    neighbour: Option<(Node, usize)>,
}

impl<'a> Steps<'a> {
    fn new(index: usize, size: usize, path: &'a [u8]) -> Self {
        Self {
            index,
            size,
            at: index,
            path,
        }
    }
}

impl Iterator for Steps<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.size <= 1 {
            return None;
        }
        let is_left = self.index & 1 == 0;
        let mut neighbour = None;
        if self.index ^ 1 < self.size {
            // Whoever read the path made sure that it is as long as it has to be.
            let (node, rest) = self
                .path
                .split_first_chunk()
                .unwrap_or((&[0; NODE_LEN], &[]));
            self.path = rest;
            neighbour = Some((*node, self.at + 1 - 2 * usize::from(!is_left)));
        }
        let level = self.at - self.index;
        let above = level + self.size;
        (self.index, self.size) = (self.index / 2, self.size.div_ceil(2));
        self.at = above + self.index;
        Some(Step { is_left, neighbour })
    }
}

impl Step {
    fn up(&self, node: &Node) -> Node {
        match &self.neighbour {
            None => *node,
            Some((neighbour, _)) if self.is_left => join(node, neighbour),
            Some((neighbour, _)) => join(neighbour, node),
        }
    }
}

/// Every level of the tree, leaves first.
pub(super) fn levels(leaves: Vec<Node>) -> Vec<Vec<Node>> {
    let mut levels = vec![leaves];
    while let Some(level) = levels.last().filter(|level| level.len() > 1) {
        let above = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => join(left, right),
                // Without a neighbour a node moves up as it is.
                _ => pair[0],
            })
            .collect();
        levels.push(above);
    }
    levels
}

/// How many neighbours a leaf has on its way to the root.
pub(super) fn path_len(mut index: usize, mut size: usize) -> usize {
    let mut len = 0;
    while size > 1 {
        len += usize::from(index ^ 1 < size);
        (index, size) = (index / 2, size.div_ceil(2));
    }
    len
}

pub(super) fn leaf(header: &[u8]) -> Node {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(Tag::Envelope.bytes());
    hash.update(header);
    hash.finalize().into()
}

pub(super) fn join(left: &[u8], right: &[u8]) -> Node {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}
