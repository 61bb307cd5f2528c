// The links are followed as those of the list of pages are (navigation.js), which also bring their own query: each page
// opens at the view that makes its point.
export default function ({ parentElement, data }) {
  const list = parentElement.querySelector("nav");
  if (list.shown !== data.links) list.innerHTML = list.shown = data.links; // written by the server, escaped there
}
