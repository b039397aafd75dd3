"""The Streamlit app: `streamlit run app/main.py` from the project's root."""
