//! How messages are declared: one line per field, from which the structure, its defaults, its decoder and its encoder
//! are made.
//!
//! ```text
//! structs! {
//!     /// What it is.
//!     FetchPartition {
//!         partition: i32 [0..];                            in every version
//!         current_leader_epoch: i32 [9..] = -1;            from version 9 on; -1 where it is absent
//!         replica_directory_id: Uuid [17.., tag 0];        a tagged field
//!         high_watermark: i64 [18.., tag 1] = i64::MAX;    a tagged field, sent unless it is i64::MAX
//!     }
//! }
//! ```
//!
//! - `[versions, null versions, tag number]`: a range of versions; within it the versions in which the field may be null
//!   (its type is then an `Option`); its tag, if it is tagged. Ranges are Rust's: `3..`, `..=7`, `0..=3`.
//! - `= value` is Kafka's default. Without it: zero, empty, or null for an `Option`.
//! - A field that a version lacks is left at its default on decoding and left out on encoding, whatever it holds.
//! - A tagged field is left out if it has its default value.
//! - A structure in an `Option` has a marker byte before it in the versions in which it may be null.
//!
//! Which versions are flexible is said once per API, in the table in [`crate::api`].

/// Declares structures; the syntax is in the module's documentation.
macro_rules! structs {
    ($(
        $(#[$meta:meta])*
        $name:ident {
            $(
                $(#[$field_meta:meta])*
                $field:ident: $type:ty [$versions:expr $(, null $null:expr)? $(, tag $tag:literal)?] $(= $default:expr)?;
            )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $crate::schema::default_of!($type $(, $default)?),)* }
            }
        }

        impl $crate::wire::Field for $name {
            // Structures without fields, without tagged fields, or all in every version leave some of this unused.
            #[allow(unused_mut, unused_variables)]
            fn read(
                reader: &mut $crate::wire::Reader,
                format: $crate::wire::Format,
            ) -> Result<Self, $crate::wire::DecodeError> {
                let version = format.version;
                let mut value = Self::default();
                $($crate::schema::unless_tagged! { [$($tag)?]
                    if ($versions).contains(&version) {
                        let format = $crate::schema::format_of!(format $(, $null)?);
                        value.$field = $crate::wire::Field::read(reader, format)?;
                    }
                })*
                if format.flexible {
                    reader.tagged_fields(|reader, tag| {
                        $($crate::schema::if_tagged! { [$($tag)?]
                            if tag == $($tag)? && ($versions).contains(&version) {
                                let format = $crate::schema::format_of!(format $(, $null)?);
                                value.$field = $crate::wire::Field::read(reader, format)?;
                                return Ok(true);
                            }
                        })*
                        Ok(false)
                    })?;
                }
                Ok(value)
            }

            fn errors(&self) -> usize {
                0 $(+ $crate::schema::errors_of!(self $field))*
            }

            #[allow(unused_variables)]
            fn raise_throttle_time_ms(&mut self, time_ms: i32) {
                $($crate::schema::if_throttle_time! { $field
                    self.$field = self.$field.max(time_ms);
                })*
            }

            #[allow(unused_mut, unused_variables)]
            fn write(&self, writer: &mut $crate::wire::Writer, format: $crate::wire::Format) {
                let version = format.version;
                $($crate::schema::unless_tagged! { [$($tag)?]
                    if ($versions).contains(&version) {
                        let format = $crate::schema::format_of!(format $(, $null)?);
                        $crate::wire::Field::write(&self.$field, writer, format);
                    }
                })*
                if format.flexible {
                    let mut tagged = $crate::wire::TaggedFields::default();
                    $($crate::schema::if_tagged! { [$($tag)?]
                        if ($versions).contains(&version)
                            && self.$field != $crate::schema::default_of!($type $(, $default)?)
                        {
                            let format = $crate::schema::format_of!(format $(, $null)?);
                            tagged.add($($tag)?, &self.$field, format);
                        }
                    })*
                    writer.put_tagged_fields(tagged);
                }
            }
        }

        #[cfg(feature = "samples")]
        impl $crate::samples::Sample for $name {
            fn sample(samples: &mut $crate::samples::Samples, format: $crate::wire::Format) -> Self {
                let version = format.version;
                let mut value = Self::default();
                $(if ($versions).contains(&version) {
                    let format = $crate::schema::format_of!(format $(, $null)?);
                    value.$field = $crate::samples::Sample::sample(samples, format);
                })*
                value
            }
        }

        impl $crate::wire::Nullable for $name {
            fn read_nullable(
                reader: &mut $crate::wire::Reader,
                format: $crate::wire::Format,
            ) -> Result<Option<Self>, $crate::wire::DecodeError> {
                let marker: i8 = $crate::wire::Field::read(reader, format)?;
                match marker < 0 {
                    true => Ok(None),
                    false => $crate::wire::Field::read(reader, format).map(Some),
                }
            }

            fn write_nullable(
                value: Option<&Self>,
                writer: &mut $crate::wire::Writer,
                format: $crate::wire::Format,
            ) {
                let marker: i8 = if value.is_some() { 1 } else { -1 };
                $crate::wire::Field::write(&marker, writer, format);
                if let Some(value) = value {
                    $crate::wire::Field::write(value, writer, format);
                }
            }
        }
    )*};
}

/// A field's default value.
macro_rules! default_of {
    ($type:ty) => {
        <$type as Default>::default()
    };
    ($type:ty, $default:expr) => {
        $default
    };
}

/// A field's format: that of its structure, with the field's own nullability.
macro_rules! format_of {
    ($format:ident) => {
        $crate::wire::Format { nullable: false, ..$format }
    };
    ($format:ident, $null:expr) => {
        $crate::wire::Format { nullable: ($null).contains(&$format.version), ..$format }
    };
}

/// The body, for fields without a tag.
macro_rules! unless_tagged {
    ([] $($body:tt)*) => { $($body)* };
    ([$tag:literal] $($body:tt)*) => {};
}

/// Whether an error code is one, or how many are in a field.
macro_rules! errors_of {
    ($self:ident error_code) => {
        usize::from($self.error_code != 0)
    };
    ($self:ident $field:ident) => {
        $crate::wire::Field::errors(&$self.$field)
    };
}

/// The body, for the field in which a response tells how long the client is not listened to.
macro_rules! if_throttle_time {
    (throttle_time_ms $($body:tt)*) => { $($body)* };
    ($field:ident $($body:tt)*) => {};
}

/// The body, for fields with a tag.
macro_rules! if_tagged {
    ([] $($body:tt)*) => {};
    ([$tag:literal] $($body:tt)*) => { $($body)* };
}

pub(crate) use {default_of, errors_of, format_of, if_tagged, if_throttle_time, structs, unless_tagged};
