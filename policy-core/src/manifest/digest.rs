//! Whether two objects of which little is read say the same.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::scalar::Scalar;
use super::tree::{NodeId, Tree, Value};

/// Nodes that are looked at, aliases expanded. What lies beyond is like nothing else.
const MOST_VISITS: usize = 100_000;
/// Nesting that is looked at.
const DEEPEST: usize = 128;

impl Tree<'_> {
    /// A hash of what a mapping means, but for some of its fields: the order of fields, and how values are written, do not matter, and
    /// `null` is like an absent field.
    ///
    /// Cost: linear in the object, up to a limit.
    pub(crate) fn digest_without(&self, id: NodeId, fields: &[&str]) -> u64 {
        self.digest_counted(id, fields, &mut 0)
    }

    fn digest_counted(&self, id: NodeId, fields: &[&str], visits: &mut usize) -> u64 {
        let entries = self.entries(id).into_iter().filter(|(name, ..)| !fields.contains(&name.as_ref()));
        entries.map(|(name, _, value)| self.entry(&name, value, 0, visits)).fold(0, u64::wrapping_add)
    }

    fn entry(&self, name: &str, value: NodeId, depth: usize, visits: &mut usize) -> u64 {
        if self.is_null(value) { 0 } else { hash(&(name, self.digest(value, depth, visits))) }
    }

    fn digest(&self, id: NodeId, depth: usize, visits: &mut usize) -> u64 {
        *visits += 1;
        if *visits > MOST_VISITS || depth > DEEPEST {
            let at = self.position(id);
            return hash(&(at.line, at.column, at.bytes));
        }
        match self.value(id) {
            Value::Mapping(_) => {
                let entries = self.entries(id);
                // Entries that are null are not visited.
                *visits += entries.len();
                let sum = entries
                    .into_iter()
                    .map(|(name, _, value)| self.entry(&name, value, depth + 1, visits))
                    .fold(0, u64::wrapping_add);
                hash(&("mapping", sum))
            }
            Value::Sequence(items) => {
                let items: Vec<u64> = items.iter().map(|item| self.digest(*item, depth + 1, visits)).collect();
                hash(&items)
            }
            Value::Scalar { .. } | Value::Alias(_) => match self.scalar(id) {
                None | Some(Scalar::Null) => 0,
                Some(Scalar::Bool(value)) => hash(&value),
                Some(Scalar::Int(value)) => hash(&("integer", value)),
                Some(Scalar::Float(value)) => hash(&("number", value.to_bits())),
                Some(Scalar::Text(text)) => hash(text),
            },
        }
    }
}

fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::documents::Documents;
    use super::*;

    fn digest(text: &str) -> u64 {
        let tree = Documents::new(text).next().unwrap().unwrap();
        tree.digest_without(tree.root(), &["metadata"])
    }

    #[test]
    fn only_the_meaning_counts() {
        let text = "metadata: {name: a}\nspec: {a: [1, x], b: {c: yes}}\n";
        for same in [
            "spec: {b: {c: true, d: null}, a: [1, 'x']}\n",
            "{\"spec\": {\"a\": [1, \"x\"], \"b\": {\"c\": true}}}",
            "x: null\nspec: {a: [1, &x x], b: {c: true}}\nmetadata: *x\n",
        ] {
            assert_eq!(digest(same), digest(text), "{same}");
        }
        for other in [
            "spec: {a: [x, 1], b: {c: yes}}",
            "spec: {a: [1, x], b: {c: 'true'}}",
            "spec: {a: ['1', x], b: {c: yes}}",
            "spec: {b: {c: yes}}",
        ] {
            assert_ne!(digest(other), digest(text), "{other}");
        }
    }

    #[test]
    fn aliases_that_lead_back_end() {
        assert_ne!(digest("spec: &s {a: *s}\n"), digest("spec: {a: {}}\n"));
        let bomb = "spec: {a: &a [x, x], b: &b [*a, *a], c: &c [*b, *b], d: &d [*c, *c], e: &e [*d, *d], f: &f [*e, *e], g: &g [*f, *f], \
                    h: &h [*g, *g], i: &i [*h, *h], j: &j [*i, *i], k: &k [*j, *j], l: &l [*k, *k], m: &m [*l, *l], n: &n [*m, *m], \
                    o: &o [*n, *n], p: &p [*o, *o], q: &q [*p, *p], r: &r [*q, *q], s: &s [*r, *r], t: [*s, *s, *s, *s, *s, *s, *s]}\n";
        // Each of the lists has the one before twice; and a mapping of nulls is in a list many times.
        let nulls = format!(
            "spec: {{a: &a {{{}}}, b: [{}]}}\n",
            (0..5_000).map(|n| format!("k{n}: , ")).collect::<String>(),
            "*a, ".repeat(5_000)
        );
        for text in [bomb, &nulls] {
            let tree = Documents::new(text).next().unwrap().unwrap();
            let mut visits = 0;
            tree.digest_counted(tree.root(), &[], &mut visits);
            assert!(visits > MOST_VISITS && visits < 2 * MOST_VISITS, "{visits}");
        }
    }
}
