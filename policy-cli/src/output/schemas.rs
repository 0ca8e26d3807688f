//! The JSON Schemas of `-o json`, `-o jsonl` and `-o yaml`. A test holds real output to them.

use anyhow::{Result, bail};

use super::raw;
use crate::args::SchemaOf;

/// Prints the schema of a command.
pub(crate) fn print(command: SchemaOf) -> Result<()> {
    raw(match command {
        SchemaOf::Can => include_bytes!("../../schemas/can.json"),
        SchemaOf::List | SchemaOf::Who => include_bytes!("../../schemas/list.json"),
        SchemaOf::Reach => include_bytes!("../../schemas/reach.json"),
        SchemaOf::Validate | SchemaOf::Lint => include_bytes!("../../schemas/validate.json"),
        SchemaOf::Render => {
            bail!("`netpol render -o json` prints the JSON of `nft -j`, which the manual page libnftables-json(5) describes")
        }
    })
}
