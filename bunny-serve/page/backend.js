// Where the page's answers come from: the server that it came from. A page with a model of its own has another
// `backend.js` (bunny-web/js/page).

/** As `fetch`. */
export const call = (address, options) => fetch(address, options);

/** Has `listener` hear what the backend is about: a server tells nothing. */
export const hear = () => {};
