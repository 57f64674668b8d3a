use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, Result, WhereClause, parse_quote};

use crate::subject;

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    subject::check(input)?;
    let path = subject::crate_path(input)?;
    let datum = quote!(#path::datum);
    let name = &input.ident;
    let (parameters, arguments, _) = input.generics.split_for_impl();
    let bounds = bounds(input, &datum);
    Ok(quote! {
        #[automatically_derived]
        impl #parameters #datum::Datum for #name #arguments #bounds {
            type Ref<'a> = Self;

            fn encode(value: Self, place: #datum::Place, out: &mut ::std::vec::Vec<u8>) {
                #datum::record::store(&value, place, out);
            }

            fn store(&self, place: #datum::Place, out: &mut ::std::vec::Vec<u8>) {
                #datum::record::store(self, place, out);
            }

            fn decode<'a>(
                input: &mut &'a [u8],
                place: #datum::Place,
            ) -> ::core::result::Result<Self, #datum::DecodeError> {
                #datum::record::decode(input, place)
            }

            fn own(value: Self) -> Self {
                value
            }
        }

        #[automatically_derived]
        impl #parameters #datum::Element for #name #arguments #bounds {}
    })
}

/// Asks for serde of the whole type and not of its parameters, which may stand where serde does not look.
fn bounds(input: &DeriveInput, datum: &TokenStream) -> WhereClause {
    let mut bounds = subject::bound_parameters(input, &quote!(::core::marker::Send + 'static));
    if subject::is_generic(input) {
        bounds
            .predicates
            .push(parse_quote!(Self: #datum::record::Serialize + #datum::record::DeserializeOwned));
    }
    bounds
}
