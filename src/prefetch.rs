use std::thread::{self, JoinHandle};

/// Work that a thread does ahead, known by a key, while the program does something else.
pub struct Prefetch<K, T> {
    begun: Option<(K, JoinHandle<T>)>,
}

impl<K: PartialEq, T: Send + 'static> Prefetch<K, T> {
    #[allow(clippy::new_without_default)] // a lesson says what it begins with
    pub fn new() -> Self {
        Self { begun: None }
    }

    /// Begins work in a thread of its own. What was begun before and not taken is let go.
    pub fn begin(&mut self, key: K, work: impl FnOnce() -> T + Send + 'static) {
        self.begun = Some((key, thread::spawn(work)));
    }

    /// What the thread has made under this key, as soon as it is done; `None` if something else was begun.
    ///
    /// # Panics
    /// If the work has.
    pub fn take(&mut self, key: K) -> Option<T> {
        let (begun, thread) = self.begun.take()?;
        (begun == key).then(|| thread.join().expect("work ahead does not panic"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_handed_out_once_and_under_its_key_alone() {
        let mut ahead = Prefetch::new();
        assert_eq!(ahead.take(1), None);
        ahead.begin(1, || "one");
        assert_eq!((ahead.take(1), ahead.take(1)), (Some("one"), None));
        ahead.begin(2, || "two");
        assert_eq!((ahead.take(3), ahead.take(2)), (None, None));
        ahead.begin(4, || "four");
        ahead.begin(5, || "five");
        assert_eq!(ahead.take(5), Some("five"));
    }
}
