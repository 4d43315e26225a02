//! Changes of a JSON document, as PARTIAL_UPDATE_ROWS events have them, applied to the document.
//!
//! Each change is an operation byte, a path with its packed length, and unless it removes something, a
//! value in binary form with its packed length (MySQL's source, `json_diff.h`).
use alloc::borrow::ToOwned;
use alloc::vec::Vec;

use super::cells_read::Input;
use super::json::{self, Budget, DEPTH_MAX, Value, document, put_string};
use super::json_path::{Leg, legs};
use super::value_error::ValueFault;

/// Operations.
mod operation {
    pub(super) const REPLACE: u8 = 0;
    pub(super) const INSERT: u8 = 1;
    pub(super) const REMOVE: u8 = 2;
}

/// A document that can be changed. What is no container is kept as text.
#[derive(Clone, Debug)]
enum Node {
    Object(Vec<(Vec<u8>, Self)>),
    Array(Vec<Self>),
    Scalar(Vec<u8>),
}

/// Appends a document as text, without a cell around it, after changes.
pub(super) fn put(out: &mut Vec<u8>, base: &[u8], changes: &[u8]) -> Result<(), ValueFault> {
    if changes.is_empty() {
        return json::put(out, base);
    }
    let mut root = Node::of(base)?;
    let mut input = Input::new(changes);
    while input.left() > 0 {
        let (operation, path, value) = change(&mut input).ok_or(ValueFault::JsonChange)?;
        let path = legs(path).ok_or(ValueFault::JsonChange)?;
        let value = value.map(Node::of).transpose()?;
        root.apply(operation, &path, value).ok_or(ValueFault::JsonChange)?;
    }
    root.put(out, DEPTH_MAX)
}

/// An operation, its path and its value.
type Change<'a> = (u8, &'a [u8], Option<&'a [u8]>);

/// Reads one change.
fn change<'a>(input: &mut Input<'a>) -> Option<Change<'a>> {
    let operation = input.u8()?;
    let path = input.packed_bytes()?;
    match operation {
        operation::REPLACE | operation::INSERT => {
            Some((operation, path, Some(input.packed_bytes()?)))
        }
        operation::REMOVE => Some((operation, path, None)),
        _ => None,
    }
}

impl Node {
    fn of(bytes: &[u8]) -> Result<Self, ValueFault> {
        Self::of_value(document(bytes)?, &mut Budget::new(bytes), DEPTH_MAX)
    }

    fn of_value(value: Value<'_>, budget: &mut Budget, depth: usize) -> Result<Self, ValueFault> {
        let Value::Container(container) = value else {
            let mut text = Vec::new();
            json::put_scalar(&mut text, value, budget)?;
            return Ok(Self::Scalar(text));
        };
        let depth = depth.checked_sub(1).ok_or(ValueFault::JsonDepth)?;
        let (mut members, mut elements) = (Vec::new(), Vec::new());
        for index in 0..container.count {
            budget.spend(container.entry_len())?;
            let value = container.value(index).ok_or(ValueFault::Json)?;
            let value = Self::of_value(value, budget, depth)?;
            if container.object {
                let key = container.key(index).ok_or(ValueFault::Json)?;
                budget.spend(key.len())?;
                members.push((key.to_owned(), value));
            } else {
                elements.push(value);
            }
        }
        Ok(if container.object { Self::Object(members) } else { Self::Array(elements) })
    }

    fn put(&self, out: &mut Vec<u8>, depth: usize) -> Result<(), ValueFault> {
        // A value of many levels may have come into many levels.
        let depth = depth.checked_sub(1).ok_or(ValueFault::JsonDepth);
        match self {
            Self::Scalar(text) => out.extend_from_slice(text),
            Self::Array(elements) => {
                out.push(b'[');
                for (index, element) in elements.iter().enumerate() {
                    put_comma(out, index);
                    element.put(out, depth?)?;
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (index, (key, member)) in members.iter().enumerate() {
                    put_comma(out, index);
                    put_string(out, key)?;
                    out.extend_from_slice(b": ");
                    member.put(out, depth?)?;
                }
                out.push(b'}');
            }
        }
        Ok(())
    }

    /// `None` if the change does not fit.
    fn apply(&mut self, operation: u8, path: &[Leg], value: Option<Self>) -> Option<()> {
        match operation {
            operation::REPLACE => {
                *self.at(path)? = value?;
                Some(())
            }
            operation::INSERT => self.insert(path, value?),
            _ => self.remove(path),
        }
    }

    /// What a path leads to.
    fn at(&mut self, path: &[Leg]) -> Option<&mut Self> {
        let mut node = self;
        for leg in path {
            node = match (node, leg) {
                (Self::Object(members), Leg::Member(name)) => {
                    &mut members.iter_mut().find(|(key, _)| key == name)?.1
                }
                (Self::Array(elements), Leg::Element(place)) => {
                    let index = place.index(elements.len())?;
                    elements.get_mut(index)?
                }
                // Anything else is an array of one element for a path.
                (node @ (Self::Object(_) | Self::Scalar(_)), Leg::Element(place))
                    if place.index(1) == Some(0) =>
                {
                    node
                }
                _ => return None,
            };
        }
        Some(node)
    }

    fn insert(&mut self, path: &[Leg], value: Self) -> Option<()> {
        let (last, parents) = path.split_last()?;
        match (self.at(parents)?, last) {
            (Self::Object(members), Leg::Member(name)) => {
                // The server sorts by length first.
                let after = |(key, _): &(Vec<u8>, Self)| (key.len(), key) < (name.len(), name);
                let index = members.partition_point(after);
                if members.get(index).is_some_and(|(key, _)| key == name) {
                    return None;
                }
                members.insert(index, (name.clone(), value));
            }
            (Self::Array(elements), Leg::Element(place)) => {
                let index = place.insert_index(elements.len());
                elements.insert(index.min(elements.len()), value);
            }
            _ => return None,
        }
        Some(())
    }

    fn remove(&mut self, path: &[Leg]) -> Option<()> {
        let (last, parents) = path.split_last()?;
        match (self.at(parents)?, last) {
            (Self::Object(members), Leg::Member(name)) => {
                let index = members.iter().position(|(key, _)| key == name)?;
                members.remove(index);
            }
            (Self::Array(elements), Leg::Element(place)) => {
                let index = place.index(elements.len()).filter(|index| *index < elements.len())?;
                elements.remove(index);
            }
            _ => return None,
        }
        Some(())
    }
}

fn put_comma(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.extend_from_slice(b", ");
    }
}
