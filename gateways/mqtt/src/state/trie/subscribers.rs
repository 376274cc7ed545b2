//! Who subscribed to one filter: mostly one or few, sometimes a hundred thousand. Pure.

use std::collections::HashMap;
use std::hash::Hash;

/// Up to here looking through all is as fast as hashing, and much smaller.
const FEW_MAX: usize = 16;

#[derive(Debug)]
pub enum Subscribers<K, V> {
    Few(Vec<(K, V)>),
    Many(Box<Many<K, V>>),
}

/// A list to walk through, and where in it each is.
#[derive(Debug)]
pub struct Many<K, V> {
    list: Vec<(K, V)>,
    places: HashMap<K, u32>,
}

impl<K, V> Default for Subscribers<K, V> {
    fn default() -> Self {
        Subscribers::Few(Vec::new())
    }
}

impl<K, V> Subscribers<K, V> {
    fn list(&self) -> &[(K, V)] {
        match self {
            Subscribers::Few(list) => list,
            Subscribers::Many(many) => &many.list,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    pub fn visit(&self, visit: &mut impl FnMut(&K, &V)) {
        self.list().iter().for_each(|(key, value)| visit(key, value));
    }
}

impl<K: Copy + Eq + Hash, V> Subscribers<K, V> {
    fn place(&self, key: &K) -> Option<usize> {
        match self {
            Subscribers::Few(list) => list.iter().position(|(other, _)| other == key),
            Subscribers::Many(many) => many.places.get(key).map(|place| *place as usize),
        }
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        Some(&self.list()[self.place(key)?].1)
    }

    /// Returns what the key had before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let place = self.place(&key);
        match self {
            Subscribers::Few(list) => {
                if let Some(place) = place {
                    return Some(std::mem::replace(&mut list[place].1, value));
                }
                if list.len() < FEW_MAX {
                    // Most filters stay with one.
                    if list.is_empty() {
                        list.reserve_exact(1);
                    }
                    list.push((key, value));
                    return None;
                }
                let mut list = std::mem::take(list);
                list.push((key, value));
                let places = list.iter().zip(0..).map(|((key, _), place)| (*key, place)).collect();
                *self = Subscribers::Many(Box::new(Many { list, places }));
                None
            }
            Subscribers::Many(many) => {
                if let Some(place) = place {
                    return Some(std::mem::replace(&mut many.list[place].1, value));
                }
                many.places.insert(key, many.list.len() as u32);
                many.list.push((key, value));
                None
            }
        }
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.place(key)?;
        match self {
            Subscribers::Few(list) => Some(list.swap_remove(place).1),
            Subscribers::Many(many) => {
                many.places.remove(key);
                let (_, value) = many.list.swap_remove(place);
                if let Some((moved, _)) = many.list.get(place) {
                    many.places.insert(*moved, place as u32);
                }
                // Half of it, so that one who comes and goes costs nothing.
                if many.list.len() <= FEW_MAX / 2 {
                    let mut list = std::mem::take(&mut many.list);
                    list.shrink_to_fit();
                    *self = Subscribers::Few(list);
                }
                Some(value)
            }
        }
    }
}
