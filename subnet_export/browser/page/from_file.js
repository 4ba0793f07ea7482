// Browsers load no modules from files, so this classic script explains it where the page is opened as a file.
if (location.protocol === "file:") {
  const message = document.getElementById("message");
  message.textContent = "Browsers do not run this page from a file. Open it with: python -m subnet_export.serve";
  message.hidden = false;
  document.getElementById("runtime").textContent = "–";
  for (const control of document.querySelectorAll("button, input, select")) control.disabled = true;
}
