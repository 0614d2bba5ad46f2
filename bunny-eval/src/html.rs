//! The frame of the pages that this crate writes.

pub(crate) use bunny_base::escape::for_html as escape;

/// A page that needs nothing but itself.
pub(crate) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\n\
         <style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n{body}</body></html>\n",
        title = escape(title)
    )
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;padding:0 1em;max-width:90em;\
color:#222;background:#fff}h1{font-size:1.4em}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
td,th{padding:.2em .7em;text-align:right;white-space:nowrap}td:first-child,th:first-child{text-align:left}\
tr.own{font-weight:600;border-top:1px solid #999}tr.published,tr.difference{color:#666}\
article{border-top:1px solid #ccc;padding:1em 0;overflow:hidden}article h2{font-size:1.1em;margin:0}article img{float:right;max-width:20em;margin:0 0 1em 1em}\
article p{white-space:pre-wrap;overflow-wrap:anywhere;margin:.3em 0}.right{color:#176c2c}.wrong{color:#a00}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#1b1b1b}.right{color:#7c7}.wrong{color:#f88}}";
