//! Which files below a folder are manifests, and their bytes.
//!
//! - `scan`: what is below a folder.
//! - `content`: the bytes of a file, decompressed, and never more than a limit.

mod content;
mod scan;

pub use content::{beginning, content, regular_content};
pub use scan::{FolderId, Scan, Selection, is_manifest, is_test_file, manifests_below, scan, scan_selected};
