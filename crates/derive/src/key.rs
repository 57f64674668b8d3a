use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};
use syn::{
    Data, DataEnum, DeriveInput, Error, Field, Fields, Ident, Result, WhereClause, parse_quote,
    spanned::Spanned,
};

use crate::subject;

const NO_VARIANTS: &str = "an enum without variants has no values to group by";
const NO_DISCRIMINANT: &str = "the order of `Key` is that of the variants, but a derived `Ord` goes by these \
                               numbers: leave them out, and write the variants in their order";

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    subject::check(input)?;
    let path = subject::crate_path(input)?;
    let shape = Shape { datum: quote!(#path::datum), key: quote!(#path::key), name: &input.ident };
    let (store, decode) = match &input.data {
        Data::Enum(data) => (shape.store_enum(data)?, shape.decode_enum(data)),
        Data::Struct(data) => (shape.store_struct(&data.fields), shape.decode_struct(&data.fields)),
        Data::Union(_) => unreachable!("a union is refused by the check"),
    };
    Ok(shape.implement(input, &store, &decode))
}

/// The names that the generated code needs.
struct Shape<'a> {
    datum: TokenStream,
    key: TokenStream,
    name: &'a Ident,
}

impl Shape<'_> {
    fn implement(&self, input: &DeriveInput, store: &TokenStream, decode: &TokenStream) -> TokenStream {
        let Self { datum, key, name } = self;
        let (parameters, arguments, _) = input.generics.split_for_impl();
        let bounds = self.bounds(input);
        quote! {
            #[automatically_derived]
            impl #parameters #key::Key for #name #arguments #bounds {
                fn encode_key(value: Self, place: #datum::Place, out: &mut ::std::vec::Vec<u8>) {
                    #key::Key::store_key(&value, place, out);
                }

                #[allow(unused_variables)]
                fn store_key(&self, place: #datum::Place, out: &mut ::std::vec::Vec<u8>) {
                    #store
                }

                #[allow(unused_variables)]
                fn decode_key<'a>(
                    input: &mut &'a mut [u8],
                    place: #datum::Place,
                ) -> ::core::result::Result<Self, #datum::DecodeError> {
                    #decode
                }
            }
        }
    }

    fn bounds(&self, input: &DeriveInput) -> WhereClause {
        let Self { datum, key, .. } = self;
        let mut bounds = subject::bound_parameters(input, &quote!(#key::Key));
        if subject::is_generic(input) {
            bounds.predicates.push(parse_quote!(Self: for<'a> #datum::Datum<Ref<'a> = Self>));
        }
        bounds
    }

    fn store_struct(&self, fields: &Fields) -> TokenStream {
        let pattern = pattern(fields);
        let stores = self.store_fields(fields);
        quote! {
            let Self #pattern = self;
            #stores
        }
    }

    fn store_enum(&self, data: &DataEnum) -> Result<TokenStream> {
        if data.variants.is_empty() {
            return Err(Error::new(self.name.span(), NO_VARIANTS));
        }
        let arms = data.variants.iter().enumerate().map(|(index, variant)| {
            if let Some((_, discriminant)) = &variant.discriminant {
                return Err(Error::new(discriminant.span(), NO_DISCRIMINANT));
            }
            let (index, name) = (tag(index), &variant.ident);
            let (pattern, key) = (pattern(&variant.fields), &self.key);
            let stores = self.store_fields(&variant.fields);
            let inner = self.inner();
            Ok(quote! {
                Self::#name #pattern => {
                    <u32 as #key::Key>::store_key(&#index, #inner, out);
                    #stores
                }
            })
        });
        let arms = arms.collect::<Result<Vec<_>>>()?;
        Ok(quote!(match self { #(#arms)* }))
    }

    /// Every field is inside but the last, which has the place of the whole.
    fn store_fields(&self, fields: &Fields) -> TokenStream {
        let key = &self.key;
        let stores = fields.iter().enumerate().map(|(index, field)| {
            let (binding, ty, place) = (binding(index), &field.ty, self.place(index, fields));
            quote!(<#ty as #key::Key>::store_key(#binding, #place, out);)
        });
        quote!(#(#stores)*)
    }

    fn decode_struct(&self, fields: &Fields) -> TokenStream {
        let values = self.decode_fields(fields);
        quote!(::core::result::Result::Ok(Self #values))
    }

    fn decode_enum(&self, data: &DataEnum) -> TokenStream {
        let Self { datum, key, name } = self;
        let inner = self.inner();
        let arms = data.variants.iter().enumerate().map(|(index, variant)| {
            let (index, name) = (tag(index), &variant.ident);
            let values = self.decode_fields(&variant.fields);
            quote!(#index => Self::#name #values,)
        });
        let what = name.to_string();
        quote! {
            ::core::result::Result::Ok(match <u32 as #key::Key>::decode_key(input, #inner)? {
                #(#arms)*
                tag => return ::core::result::Result::Err(#datum::DecodeError::InvalidTag { what: #what, tag }),
            })
        }
    }

    /// The fields in braces, by number if they have no names; they are read in the order in which they are written.
    fn decode_fields(&self, fields: &Fields) -> TokenStream {
        let Self { datum, key, .. } = self;
        let values = fields.members().zip(fields).enumerate().map(|(index, (member, Field { ty, .. }))| {
            let place = self.place(index, fields);
            quote!(#member: <#ty as #datum::Datum>::own(<#ty as #key::Key>::decode_key(input, #place)?))
        });
        quote!({ #(#values,)* })
    }

    fn place(&self, index: usize, fields: &Fields) -> TokenStream {
        if index + 1 == fields.len() { quote!(place) } else { self.inner() }
    }

    fn inner(&self) -> TokenStream {
        let datum = &self.datum;
        quote!(#datum::Place::Inner)
    }
}

/// Binds every field, named or not, by its number.
fn pattern(fields: &Fields) -> TokenStream {
    let bindings = fields.members().enumerate().map(|(index, member)| {
        let binding = binding(index);
        quote!(#member: #binding)
    });
    quote!({ #(#bindings,)* })
}

fn binding(index: usize) -> Ident {
    format_ident!("field_{index}")
}

fn tag(index: usize) -> Literal {
    Literal::u32_suffixed(u32::try_from(index).expect("rustc numbers variants in 32 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(source: &str) -> String {
        derive(&syn::parse_str(source).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn what_has_no_order_is_refused() {
        assert_eq!(refusal("enum Never {}"), NO_VARIANTS);
        assert_eq!(refusal("enum Level { High = 2, Low = 1 }"), NO_DISCRIMINANT);
    }
}
