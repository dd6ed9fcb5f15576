// The guide's dashboard (its step 8), with its own selectors and effects, as a component of the client's site.
import { useEffect } from "react";
import { createRoot } from "react-dom/client";
import { useWebSocket } from "./useWebSocket.js";

function updatePaymentStatus(data) {
  const paymentElement = document.querySelector(`[data-invoice-id="${data.invoiceId}"]`);
  if (paymentElement) {
    paymentElement.querySelector(".status-badge").textContent = "Paid";
    paymentElement.querySelector(".status-badge").className = "status-badge status-paid";
  }
}

function Dashboard() {
  const { isConnected, messages } = useWebSocket();

  useEffect(() => {
    const projectUpdate = messages.find((m) => m.type === "project_update");
    if (projectUpdate) window.location.reload();
    const paymentUpdate = messages.find((m) => m.type === "payment_update");
    if (paymentUpdate) updatePaymentStatus(paymentUpdate.data);
  }, [messages]);

  useEffect(() => {
    if (isConnected) document.querySelector(".connection-status")?.classList.add("connected");
  }, [isConnected]);

  return <div className="connection-status">{isConnected ? "Connected" : "Connecting..."}</div>;
}

createRoot(document.getElementById("root")).render(<Dashboard />);
