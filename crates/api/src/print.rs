//! The text form of records, for text outputs.

use std::{cmp::Reverse, fmt::Display, io::Write};

use crate::datum::{Datum, Element};

/// A [`Datum`] that a text output can show: one record a line, the fields of tuples separated by tabs.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no text form",
    label = "a text output cannot print this type",
    note = "for your own type, say how it looks:\n`impl Print for {Self} {{`\n`    fn print(value: Self, out: &mut Vec<u8>) {{ out.extend_from_slice(value.name.as_bytes()) }}`\n`}}`"
)]
pub trait Print: Datum {
    /// Whether the type never prints anything: a tuple leaves out such a field and its tab.
    const EMPTY: bool = false;

    /// Appends the text of a value.
    fn print(value: Self::Ref<'_>, out: &mut Vec<u8>);
}

/// Prints integers, which are what counts are made of, without the formatting machinery.
macro_rules! integer {
    ($($T:ty),*) => { $(
        impl Print for $T {
            #[inline]
            fn print(value: Self, out: &mut Vec<u8>) {
                out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            }
        }
    )* };
}
integer!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);

fn display(value: impl Display, out: &mut Vec<u8>) {
    write!(out, "{value}").expect("a Vec takes all that is written");
}

/// Prints values as `Display` does.
macro_rules! displayed {
    ($($T:ty),*) => { $(
        impl Print for $T {
            fn print(value: Self, out: &mut Vec<u8>) {
                display(value, out);
            }
        }
    )* };
}
displayed!(f32, f64, bool, char);

impl Print for () {
    const EMPTY: bool = true;

    #[inline]
    fn print((): Self, _: &mut Vec<u8>) {}
}

impl Print for String {
    #[inline]
    fn print(value: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(value.as_bytes());
    }
}

impl Print for Vec<u8> {
    #[inline]
    fn print(value: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(value);
    }
}

impl<const N: usize> Print for [u8; N] {
    #[inline]
    fn print(value: &Self, out: &mut Vec<u8>) {
        out.extend_from_slice(value);
    }
}

impl<T: Print> Print for Option<T> {
    const EMPTY: bool = T::EMPTY;

    #[inline]
    fn print(value: Option<T::Ref<'_>>, out: &mut Vec<u8>) {
        if let Some(value) = value {
            T::print(value, out);
        }
    }
}

impl<T: Print> Print for Reverse<T> {
    const EMPTY: bool = T::EMPTY;

    #[inline]
    fn print(Reverse(value): Reverse<T::Ref<'_>>, out: &mut Vec<u8>) {
        T::print(value, out);
    }
}

impl<T: Print + Element> Print for Vec<T> {
    fn print(value: Vec<T::Ref<'_>>, out: &mut Vec<u8>) {
        for (index, element) in value.into_iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            T::print(element, out);
        }
    }
}

/// Separates the fields of a tuple, of which the empty ones are left out.
macro_rules! tuple {
    ($($T:ident $value:ident),*) => {
        impl<$($T: Print),*> Print for ($($T,)*) {
            const EMPTY: bool = $($T::EMPTY)&&*;

            #[inline]
            fn print(($($value,)*): Self::Ref<'_>, out: &mut Vec<u8>) {
                let mut fields = 0..;
                $(if !$T::EMPTY {
                    if fields.next() > Some(0) {
                        out.push(b'\t');
                    }
                    $T::print($value, out);
                })*
            }
        }
    };
}
tuple!(A a);
tuple!(A a, B b);
tuple!(A a, B b, C c);
tuple!(A a, B b, C c, D d);
tuple!(A a, B b, C c, D d, E e);
tuple!(A a, B b, C c, D d, E e, F f);

#[cfg(test)]
mod tests {
    use super::*;

    fn text<T: Print>(value: T::Ref<'_>) -> String {
        let mut out = Vec::new();
        T::print(value, &mut out);
        String::from_utf8(out).expect("these print text")
    }

    #[test]
    fn scalars() {
        assert_eq!(text::<i128>(i128::MIN), i128::MIN.to_string());
        assert_eq!(text::<u8>(7), "7");
        assert_eq!(text::<f64>(-0.5), "-0.5");
        assert_eq!(text::<bool>(true), "true");
        assert_eq!(text::<char>('ä'), "ä");
        assert_eq!(text::<()>(()), "");
    }

    #[test]
    fn strings_are_raw() {
        assert_eq!(text::<String>("a\tb"), "a\tb");
        assert_eq!(text::<Vec<u8>>(b"ab"), "ab");
        assert_eq!(text::<[u8; 2]>(b"ab"), "ab");
    }

    #[test]
    fn tuples_are_separated_by_tabs() {
        assert_eq!(text::<(String, u64)>(("a", 1)), "a\t1");
        assert_eq!(text::<(String, (u64, i8))>(("a", (1, -1))), "a\t1\t-1");
        assert_eq!(text::<(u8, u8, u8, u8, u8, u8)>((1, 2, 3, 4, 5, 6)), "1\t2\t3\t4\t5\t6");
    }

    #[test]
    fn empty_fields_are_left_out() {
        assert_eq!(text::<(String, ())>(("a", ())), "a");
        assert_eq!(text::<((), String)>(((), "a")), "a");
        assert_eq!(text::<(u8, ((), ()), u8)>((1, ((), ()), 2)), "1\t2");
        assert_eq!(text::<((), Option<()>)>(((), Some(()))), "");
        const { assert!(<((), Option<()>)>::EMPTY) };
    }

    #[test]
    fn none_keeps_its_column() {
        assert_eq!(text::<(u8, Option<u8>, u8)>((1, None, 2)), "1\t\t2");
        assert_eq!(text::<Option<u8>>(Some(3)), "3");
    }

    #[test]
    fn lists_and_reversed() {
        assert_eq!(text::<Vec<u16>>(vec![1, 2, 3]), "1,2,3");
        assert_eq!(text::<Vec<String>>(vec![]), "");
        assert_eq!(text::<Reverse<String>>(Reverse("a")), "a");
    }
}
