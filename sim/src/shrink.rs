//! Leaves things out of what fails, while it still fails.

/// The shortest list found that `fails` as `items` do: whole stretches are left out first, then shorter
/// ones, then single items. `fails` is not asked about `items` itself.
pub fn leave_out<T: Clone>(items: Vec<T>, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut best = items;
    let mut chunk = best.len().next_power_of_two();
    while 0 < chunk {
        let mut from = 0;
        let mut smaller = false;
        while from < best.len() {
            let mut shorter = best.clone();
            shorter.drain(from..shorter.len().min(from + chunk));
            if fails(&shorter) {
                best = shorter;
                smaller = true;
            } else {
                from += chunk;
            }
        }
        if !smaller || 1 < chunk {
            chunk /= 2;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::leave_out;

    #[test]
    fn only_what_matters_is_left() {
        let fails = |items: &[usize]| items.contains(&7) && items.contains(&80);
        assert_eq!(leave_out((0..100).collect(), fails), [7, 80]);
        assert!(leave_out(Vec::<usize>::new(), |_| true).is_empty());
    }
}
