use crate::run;
use tch::Tensor;

/// Ends the program with a sentence if the largest of any row of logits, (…, V), is NaN or infinite: from
/// there on all text would be noise that looks like a sample, for the likeliest of V times NaN is token 0.
/// Single logits may be −∞: such a token is never chosen.
///
/// # Panics
/// If one is: `lab::run` prints the sentence.
pub fn expect_finite(logits: &Tensor) {
    if !is_finite(&logits.amax(-1, false)) {
        stop()
    }
}

/// Ends the program: the numbers that a token is to be chosen by are NaN or infinite.
pub(crate) fn stop() -> ! {
    run::stop(
        "the model's logits are not finite (NaN or infinite), so no next token can be chosen: its training \
         has diverged, or its weights are damaged; train again with a lower learning rate, or take an \
         earlier checkpoint"
            .into(),
    )
}

/// Both extremes of a tensor are NaN if any number in it is, and one is infinite if any number is.
pub fn is_finite(tensor: &Tensor) -> bool {
    if tensor.numel() == 0 {
        return true;
    }
    let (min, max) = tensor.aminmax(None, false);
    min.double_value(&[]).is_finite() && max.double_value(&[]).is_finite()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rng, run::Stop};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn sentence(body: impl FnOnce()) -> Option<String> {
        let end = catch_unwind(AssertUnwindSafe(body)).err()?;
        Some(end.downcast::<Stop>().expect("a sentence").0)
    }

    #[test]
    fn logits_that_are_not_finite_are_named_and_others_pass() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        for bad in [[1.0, nan], [nan, nan], [inf, 1.0], [-inf, -inf]] {
            let logits = Tensor::from_slice2(&[[1.0, 0.0], bad]);
            assert!(sentence(|| expect_finite(&logits)).expect("accepted").contains("logits"));
        }
        expect_finite(&Tensor::from_slice(&[f32::MAX, -inf, 0.0]));
    }

    #[test]
    fn nothing_is_drawn_by_weights_that_are_no_numbers() {
        let drawn = || assert_eq!(Rng::new(1).pick(&[0.5, f64::NAN]), 0);
        assert!(sentence(drawn).expect("accepted").contains("logits are not finite"));
    }
}
