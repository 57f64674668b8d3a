//! What is asked of every type that has one of the derives.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{
    Data, DeriveInput, Error, GenericParam, Ident, LitStr, Path, Result, WhereClause, parse_quote,
    spanned::Spanned,
};

const NO_UNION: &str = "a union does not say which of its fields it holds: use an enum";
const NO_BORROW: &str = "a value outlives the record it is read from, so it cannot borrow: use owned fields, \
                         such as `String` or `Vec<u8>`";
const NO_SETTING: &str = "the only setting is `crate = \"path\"`";

/// Refuses the types that no derive can serve.
pub(crate) fn check(input: &DeriveInput) -> Result<()> {
    if let Data::Union(union) = &input.data {
        return Err(Error::new(union.union_token.span(), NO_UNION));
    }
    match input.generics.lifetimes().next() {
        Some(lifetime) => Err(Error::new(lifetime.lifetime.span(), NO_BORROW)),
        None => Ok(()),
    }
}

/// The path of the crate `gristmill`.
pub(crate) fn crate_path(input: &DeriveInput) -> Result<Path> {
    let mut path = parse_quote!(::gristmill);
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("datum")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                return Err(meta.error(NO_SETTING));
            }
            path = meta.value()?.parse::<LitStr>()?.parse()?;
            Ok(())
        })?;
    }
    Ok(path)
}

/// The type's own bounds, and `bounds` for each of its type parameters.
pub(crate) fn bound_parameters(input: &DeriveInput, bounds: &TokenStream) -> WhereClause {
    let mut clause = input.generics.where_clause.clone().unwrap_or(parse_quote!(where));
    for parameter in type_parameters(input) {
        clause.predicates.push(parse_quote!(#parameter: #bounds));
    }
    clause
}

fn type_parameters(input: &DeriveInput) -> impl Iterator<Item = &Ident> {
    input.generics.params.iter().filter_map(|parameter| match parameter {
        GenericParam::Type(parameter) => Some(&parameter.ident),
        _ => None,
    })
}

/// Whether the type has parameters at all: then what holds of it is known only once they are.
pub(crate) fn is_generic(input: &DeriveInput) -> bool {
    !input.generics.to_token_stream().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(source: &str) -> String {
        check(&syn::parse_str(source).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_read_back_is_refused() {
        assert_eq!(refusal("union Bits { a: u32, b: f32 }"), NO_UNION);
        assert_eq!(refusal("struct Line<'a> { text: &'a str }"), NO_BORROW);
        assert_eq!(refusal("enum Word<'a> { Text(&'a str) }"), NO_BORROW);
    }

    /// The crate's path, or why there is none.
    fn path(source: &str) -> String {
        let path = crate_path(&syn::parse_str(source).unwrap());
        path.map_or_else(|error| error.to_string(), |path| path.to_token_stream().to_string())
    }

    #[test]
    fn the_crate_can_be_named() {
        assert_eq!(path("struct A;"), ":: gristmill");
        assert_eq!(path("#[datum(crate = \"crate\")] struct A;"), "crate");
        assert_eq!(path("#[datum(crate = \"a::b\")] enum A { B }"), "a :: b");
    }

    #[test]
    fn other_settings_are_refused() {
        assert_eq!(path("#[datum(size = \"4\")] struct A;"), NO_SETTING);
        assert_eq!(path("#[datum(crate = 4)] struct A;"), "expected string literal");
    }
}
